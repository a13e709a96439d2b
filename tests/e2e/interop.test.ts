/** A client written from the specification alone reads what the SDK wrote, and writes what the SDK reads. */

import { afterAll, beforeAll, expect, test } from "vitest";

import { MinimalClient } from "../reference/minimal-client.js";
import { type World, openWorld } from "../world.js";

let world: World;
let minimal: MinimalClient;
beforeAll(async () => {
  world = await openWorld();
  const { url, token, secret } = world;
  minimal = new MinimalClient({ url, token, project: "default", store: "user-tokens", secret });
});
afterAll(() => world[Symbol.asyncDispose]());

test.each(["github:42", "clé/ключ/鍵 🔑", "a\0"])("key %j, there and back", async (key) => {
  const store = world.store();
  await store.setValue(key, "by the SDK", { metadata: { a: 1 } });
  expect(await minimal.get(key)).toBe("by the SDK");
  expect(await minimal.set(key, "by the minimal client")).toBe(2);
  expect(await store.getEntry(key)).toMatchObject({ value: "by the minimal client", version: 2 });
  expect(await store.setValue(key, "x".repeat(100_000))).toEqual({ version: 3 });
  expect(await minimal.get(key)).toBe("x".repeat(100_000));
});

test("both see that a key does not exist", async () => {
  expect(await minimal.get("none")).toBeNull();
  expect(await world.store().getValue("none")).toBeNull();
});
