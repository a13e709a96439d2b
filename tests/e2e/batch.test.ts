/** Many values at once. */

import { ConfigurationError, InvalidKeyError, NotTextError, RecordInactiveError, TacendaError } from "@tacenda/sdk";
import { afterAll, beforeAll, expect, test } from "vitest";

import { type World, meddlingFetch, openWorld } from "../world.js";

let world: World;
beforeAll(async () => void (world = await openWorld()));
afterAll(() => world[Symbol.asyncDispose]());

const names = (count: number) => Array.from({ length: count }, (_, index) => `KEY_${index}`);
const fast = { stretch: "store" } as const;
const bulkStore = (fetch?: typeof globalThis.fetch) =>
  world.client({ fetch }).getStore("any", { secret: world.secret, ...fast });

test("values are read in the order asked, absent ones null, a hundred per request", async () => {
  const keys = names(250);
  for (let start = 0; start < 200; start += 100) {
    await bulkStore().setValues(keys.slice(start, start + 100).map((key) => [key, `value of ${key}`] as const));
  }
  const requests: string[] = [];
  const fetch = meddlingFetch(async (request, pass) => {
    requests.push(`${request.method} ${new URL(request.url).pathname.split("/").at(-1) ?? ""}`);
    return await pass(request);
  });
  const asked = keys.toReversed();
  const values = await bulkStore(fetch).getValues([...asked, "KEY_0"]);
  expect([...values.keys()]).toEqual(asked);
  for (const [index, key] of keys.entries()) expect(values.get(key)).toBe(index < 200 ? `value of ${key}` : null);
  expect(requests).toEqual(["POST batch", "POST batch", "POST batch"]);
});

test("values are written all or none", async () => {
  const store = bulkStore();
  expect(await store.setValues({ a: "1", b: Uint8Array.of(2) }, { metadata: { m: 1 } })).toEqual(
    new Map([
      ["a", { version: 1 }],
      ["b", { version: 1 }],
    ]),
  );
  // Another client has written since: the whole is sealed again for the versions after.
  await bulkStore().setValue("a", "theirs");
  const versions = await store.setValues({ a: "2", c: "3" });
  expect([...versions.values()]).toEqual([{ version: 3 }, { version: 1 }]);
  await bulkStore().setProtected("c", true);
  expect(await store.setValues({ c: "4" })).toEqual(new Map([["c", { version: 2 }]]));
  await expect(store.setValues({ a: "x", ["k".repeat(1_025)]: "y" })).rejects.toThrow(InvalidKeyError);
  expect(await bulkStore().getValue("a")).toBe("2");
  expect(await bulkStore().getEntries(["b"])).toMatchObject(new Map([["b", { metadata: { m: 1 } }]]));
  expect(await store.setValues({})).toEqual(new Map());
  await expect(store.setValues(names(101).map((key) => [key, "v"] as const))).rejects.toThrow(ConfigurationError);
});

test("what fails fails the call, or is collected in its place", async () => {
  const store = bulkStore();
  await store.setValues({ text: "t", inactive: "i" });
  await store.setValue("bytes", Uint8Array.of(1));
  await store.setActive("inactive", false);
  const keys = ["text", "bytes", "inactive", "none"];
  await expect(store.getValues(keys)).rejects.toSatisfy((error) => TacendaError.is(error));
  const collected = await store.getValues(keys, { onError: "collect" });
  expect(collected.get("text")).toBe("t");
  expect(collected.get("bytes")).toBeInstanceOf(NotTextError);
  expect(collected.get("inactive")).toBeInstanceOf(RecordInactiveError);
  expect(collected.get("none")).toBeNull();
  expect((await store.getEntries(["bytes", "text"])).get("bytes")).toMatchObject({ value: Uint8Array.of(1) });
});

test("values too large for one answer are fetched singly", async () => {
  const store = bulkStore();
  const large = "x".repeat(1_048_576);
  const keys = Array.from({ length: 10 }, (_, index) => `large-${index}`);
  for (const key of keys) await store.setValue(key, large);
  const values = await bulkStore().getValues(keys);
  for (const key of keys) expect(values.get(key)?.length).toBe(large.length);
});

test("a batch whose answer was lost is sent again, and written once", async () => {
  let lost = false;
  const fetch = meddlingFetch(async (request, pass) => {
    const response = await pass(request);
    if (!request.url.endsWith("/batch") || lost) return response;
    lost = true;
    throw new TypeError("fetch failed");
  });
  const versions = await bulkStore(fetch).setValues({ "lost-a": "1", "lost-b": "2" });
  expect([lost, ...versions.values()]).toEqual([true, { version: 1 }, { version: 1 }]);
  expect((await bulkStore().getEntry("lost-a"))?.version).toBe(1);
});

test("a cache serves what it has, and only the rest is asked for", async () => {
  const asked: number[] = [];
  const fetch = meddlingFetch(async (request, pass) => {
    const copy = request.clone();
    if (request.url.endsWith("/batch")) asked.push(((await copy.json()) as { reads: unknown[] }).reads.length);
    return await pass(request);
  });
  await bulkStore().setValues({ "cached-a": "1", "cached-b": "2" });
  const store = world.client({ fetch }).getStore("any", { secret: world.secret, ...fast, cache: { ttl: "1m" } });
  await store.getValues(["cached-a"]);
  await store.getValues(["cached-a", "cached-b"]);
  await store.getValues(["cached-a", "cached-b"]);
  expect(asked).toEqual([1, 1]);
});

test("each answer of a batch is verified by itself", async () => {
  const keys = ["v-a", "v-b", "v-c"];
  await bulkStore().setValues(keys.map((key) => [key, `value of ${key}`] as const));
  interface Results {
    results: ({ record: string; version: number } | { status: string })[];
  }
  for (const change of [
    (results: Results["results"]) => [results[1], results[0], results[2]],
    (results: Results["results"]) => [{ ...results[0], version: 2 }, results[1], results[2]],
    (results: Results["results"]) => [{ ...results[0], record: "AAAA" }, results[1], results[2]],
    (results: Results["results"]) => results.slice(0, 2),
    () => "nonsense",
    () => [null, null, null],
    () => [{ status: "record" }, { status: "new" }, 1],
  ]) {
    const fetch = meddlingFetch(async (request, pass) => {
      const { results } = (await (await pass(request)).json()) as Results;
      return Response.json({ results: change(results) });
    });
    await expect(bulkStore(fetch).getValues(keys)).rejects.toSatisfy((error) => TacendaError.is(error));
  }
});
