/** Keys whose last version is a tombstone, a moved mark, or expired: proved by the head, and told apart (T9). */

import { AlreadyExistsError, SecretRotatedError } from "@tacenda/sdk";
import { RecordState, recordPath, versionTag } from "@tacenda/protocol";
import { afterAll, beforeAll, expect, test } from "vitest";

import { utf8 } from "../../packages/sdk/src/crypto/bytes.js";
import { deriveKeyRoot, hashSecret, recordKeys } from "../../packages/sdk/src/crypto/derive.js";
import { sealRecord } from "../../packages/sdk/src/crypto/record.js";
import { type World, meddlingFetch, openWorld } from "../world.js";

let world: World;
const clock = { now: Date.now() };
beforeAll(async () => void (world = await openWorld({ now: () => clock.now })));
afterAll(() => world[Symbol.asyncDispose]());

/** Writes a sealed record as a holder of the secret would, for states that the SDK does not write yet. */
async function put(key: string, version: number, state: RecordState, expiresAt = 0): Promise<Response> {
  const scope = { project: "default", storeId: "user-tokens", iterations: 100_000 };
  const keys = recordKeys(await deriveKeyRoot(hashSecret(utf8(world.secret)), scope, utf8(key)));
  const payload = { kind: 0, sealedAt: Date.now(), metadata: new Uint8Array(0), value: new Uint8Array(0) } as const;
  const { record } = sealRecord(keys, { ...scope, version }, { state, expiresAt }, payload);
  const condition: Record<string, string> =
    version === 1 ? { "if-none-match": "*" } : { "if-match": versionTag(version - 1) };
  const response = await fetch(`${world.url}/${recordPath("default", "user-tokens", keys.keyHash)}`, {
    method: "PUT",
    headers: { authorization: `Bearer ${world.token}`, "content-type": "application/octet-stream", ...condition },
    body: record,
  });
  expect(response.status).toBe(version === 1 ? 201 : 200);
  return response;
}

test("a deleted key has no value, provably, and is created anew as the next version", async () => {
  await world.store().setValue("deleted", "v");
  await put("deleted", 2, RecordState.tombstone);
  const store = world.store();
  expect(await store.getValue("deleted")).toBeNull();
  expect(await store.getBytes("deleted")).toBeNull();
  expect(await store.getEntry("deleted")).toEqual({ state: "deleted", value: null, version: 2, expiresAt: null });
  expect(await store.createValue("deleted", "again")).toEqual({ version: 3 });
  expect(await store.getValue("deleted")).toBe("again");
});

test("a fresh client creates over a tombstone that it meets", async () => {
  await put("fresh", 1, RecordState.tombstone);
  expect(await world.store().createValue("fresh", "v")).toEqual({ version: 2 });
  await expect(world.store().createValue("fresh", "w")).rejects.toThrow(AlreadyExistsError);
});

test("an expired key has no value, provably, and is created anew as the next version", async () => {
  const expiresAt = clock.now - 1_000;
  await put("expired", 1, RecordState.value, expiresAt);
  const store = world.store();
  expect(await store.getValue("expired")).toBeNull();
  expect(await store.getEntry("expired")).toEqual({
    state: "expired",
    value: null,
    version: 1,
    expiresAt: new Date(expiresAt),
  });
  expect(await store.getEntry("expired", { version: 1 })).toMatchObject({ state: "expired", version: 1 });
  // The server tells of the current version whatever was asked for: of one that never was there is nothing.
  expect(await store.getEntry("expired", { version: 5 })).toBeNull();
  expect(await store.createValue("expired", "again")).toEqual({ version: 2 });
});

test("past its sealed expiry a value is not returned, though the server still serves it", async () => {
  await put("late", 1, RecordState.value, Date.now() - 1_000);
  clock.now = Date.now() - 3_600_000;
  try {
    expect(await world.store().getEntry("late")).toMatchObject({ state: "expired", value: null });
  } finally {
    clock.now = Date.now();
  }
});

test("a server that calls a key expired, which by its seal is not, is not believed", async () => {
  await put("lives", 1, RecordState.value, Date.now() + 3_600_000);
  clock.now = Date.now() + 7_200_000;
  try {
    await expect(world.store().getValue("lives")).rejects.toMatchObject({ code: "protocol" });
  } finally {
    clock.now = Date.now();
  }
});

test("after a deletion was seen, the value from before is a rollback", async () => {
  await world.store().setValue("back", "v");
  let live: Response | undefined;
  const catching = meddlingFetch(async (request, pass) => {
    const response = await pass(request);
    live = response.clone();
    return response;
  });
  await world.store({ fetch: catching }).getValue("back");
  await put("back", 2, RecordState.tombstone);
  let replay = false;
  const fetch = meddlingFetch((request, pass) => (replay && live ? live.clone() : pass(request)));
  const store = world.store({ fetch });
  expect(await store.getValue("back")).toBeNull();
  replay = true;
  await expect(store.getValue("back")).rejects.toMatchObject({ code: "rollback" });
});

test("a key that moved to another secret is an error of its own, for reads and writes", async () => {
  await put("moved", 1, RecordState.moved);
  const store = world.store();
  await expect(store.getValue("moved")).rejects.toThrow(SecretRotatedError);
  await expect(world.store().setValue("moved", "v")).rejects.toThrow(SecretRotatedError);
  await expect(world.store().setValue("moved", "v", { ifVersion: 0 })).rejects.toThrow(SecretRotatedError);
  await expect(world.store().createValue("moved", "v")).rejects.toThrow(SecretRotatedError);
});
