/** When the background purge runs, and that its steps let others through; spec/http.md § Writing a record, § Stores. */

import { join } from "node:path";
import { setImmediate } from "node:timers/promises";

import BetterSqlite3 from "better-sqlite3";
import { MAX_RECORD_BYTES, RECORD_MEDIA_TYPE } from "@tacenda/protocol";
import { afterEach, expect, onTestFinished, test, vi } from "vitest";

import { createPurge } from "../src/purge.js";
import { StorageError } from "../src/storage/record-store.js";
import { openSqlite } from "../src/storage/sqlite.js";
import { createStore, newRef, writeVersions } from "./storage/world.js";
import { ROOT_TOKEN, freshFolder, openWorld, randomRecordPath, sealedRecord, type World } from "./world.js";

afterEach(() => void vi.useRealTimers());

function countRows(world: World): number {
  const raw = new BetterSqlite3(join(world.folder, "data", "tacenda.db"), { readonly: true });
  const count = raw.prepare("select count(*) from record_versions").pluck().get();
  raw.close();
  return Number(count);
}

async function write(world: World, path: string, body: Uint8Array, version: number, query = ""): Promise<void> {
  const condition: Record<string, string> =
    version === 1 ? { "if-none-match": "*" } : { "if-match": `"${version - 1}"` };
  const headers = { "content-type": RECORD_MEDIA_TYPE, ...condition };
  const answer = await world.call("PUT", path + query, { token: ROOT_TOKEN, headers, body });
  expect(answer.ok).toBe(true);
}

test("a purge over HTTP hides earlier versions at once and deletes them soon", async () => {
  const world = await openWorld();
  const path = randomRecordPath();
  const large = sealedRecord({ length: MAX_RECORD_BYTES });
  for (let version = 1; version <= 8; version++) await write(world, path, large, version);
  await write(world, path, sealedRecord({ state: 1 }), 9, "?purge=earlier");
  const earlier = await world.call("GET", `${path}?version=8`, { token: ROOT_TOKEN });
  expect(earlier.status).toBe(404);
  await vi.waitFor(() => expect(countRows(world)).toBe(1), { timeout: 5_000 });
});

/** A database with two destroyed stores' rows in it, and its log of errors. */
async function openPurgeable() {
  const database = await openSqlite(join(await freshFolder(), "tacenda.db"));
  onTestFinished(() => database.close());
  for (const store of ["s", "t"]) {
    await createStore(database, "p", store);
    await writeVersions(database, newRef("p", store), 3);
  }
  await database.directory.destroyStore("p", "s", 9);
  const errors: string[] = [];
  const logger = { debug() {}, info() {}, warn() {}, error: (_: object, message: string) => void errors.push(message) };
  const purge = createPurge(database.maintenance, logger);
  onTestFinished(() => purge.stop());
  const rows = async () => (await database.maintenance.scan(null, 100)).rows.length;
  return { database, purge, errors, rows };
}

test("what is destroyed as a purge comes to its end is purged too", async () => {
  const { database, purge, rows } = await openPurgeable();
  const step = database.maintenance.purgeDestroyed.bind(database.maintenance);
  vi.spyOn(database.maintenance, "purgeDestroyed").mockImplementation(async (...bounds) => {
    const gone = await step(...bounds);
    if (gone === 0 && (await database.directory.destroyStore("p", "t", 9))) purge.start();
    return gone;
  });
  purge.start();
  await vi.waitFor(async () => expect(await rows()).toBe(0));
});

test("a purge that failed is said, and tried again a minute later", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const { database, purge, errors, rows } = await openPurgeable();
  const step = vi.spyOn(database.maintenance, "purgeDestroyed").mockRejectedValueOnce(new StorageError("It failed."));
  purge.start();
  await vi.waitFor(() => expect(errors).toEqual(["purge failed"]));
  vi.advanceTimersByTime(50_000);
  await setImmediate();
  expect([step.mock.calls.length, await rows()]).toEqual([1, 6]);
  vi.advanceTimersByTime(10_000);
  await vi.waitFor(async () => expect(await rows()).toBe(3));
  expect(errors).toHaveLength(1);
});

test("a stopped purge does nothing any more", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const { database, purge, rows } = await openPurgeable();
  const look = vi.spyOn(database.maintenance, "purgeDue");
  purge.start();
  await purge.stop();
  expect(look).toHaveBeenCalledTimes(1);
  vi.advanceTimersByTime(600_000);
  purge.start();
  await setImmediate();
  expect(look).toHaveBeenCalledTimes(1);
  expect(await rows()).toBe(6);
});

test("between two steps it rests as long as a step took", async () => {
  const { database, purge } = await openPurgeable();
  const steps: { begun: number; ended: number }[] = [];
  vi.spyOn(database.maintenance, "purgeDestroyed").mockImplementation(async () => {
    const begun = performance.now();
    // On SQLite nothing else runs during a step.
    while (performance.now() - begun < 40);
    steps.push({ begun, ended: performance.now() });
    return Promise.resolve(steps.length < 4 ? 1 : 0);
  });
  purge.start();
  await vi.waitFor(() => expect(steps).toHaveLength(4));
  for (const [index, { ended }] of steps.slice(0, -1).entries()) {
    expect((steps[index + 1]?.begun ?? 0) - ended).toBeGreaterThanOrEqual(38);
  }
});
