/** That the write-ahead log does not stay as large as a long reader made it, and holds nobody up as it shrinks; docs/running.md § Disk. */

import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import BetterSqlite3 from "better-sqlite3";
import { beforeEach, expect, onTestFinished, test } from "vitest";

import { MAX_LOG_BYTES } from "../../src/storage/sqlite-connection.js";
import { openSqlite } from "../../src/storage/sqlite.js";
import { freshFolder } from "../world.js";
import { bytes, keptOf, newRef, write } from "./world.js";

const BODY = bytes(1_000_000);
const PATIENCE = { timeout: 20_000, interval: 50 };

let file: string;

beforeEach(async () => {
  file = join(await freshFolder(), "tacenda.db");
});

const logSize = () => statSync(`${file}-wal`).size;

/** A database, and somebody who reads it as it was and keeps the log from being emptied. */
async function open() {
  const db = await openSqlite(file);
  onTestFinished(() => db.close());
  const fill = async (count: number) => {
    const refs = Array.from({ length: count }, () => newRef());
    for (const ref of refs) {
      await db.records.commit([write(ref, 1, { write: { body: BODY, createdAt: 1, expiresAt: 0 } })]);
    }
    return refs;
  };
  const holdReader = () => {
    const reader = new BetterSqlite3(file, { readonly: true });
    reader.exec("begin");
    reader.prepare("select count(*) from records").get();
    return () => reader.close();
  };
  return { db, fill, holdReader };
}

test("without readers it stays small", async () => {
  const { fill } = await open();
  await fill(60);
  expect(logSize()).toBeLessThan(MAX_LOG_BYTES);
});

test("it grows under a reader, and shrinks when that has gone, although nobody writes; nothing is lost", async () => {
  const { db, fill, holdReader } = await open();
  const early = await fill(2);
  const release = holdReader();
  const refs = [...early, ...(await fill(60))];
  expect(logSize()).toBeGreaterThan(60_000_000);
  // The thread may look, and find that it can do nothing.
  await sleep(1_500);
  expect(logSize()).toBeGreaterThan(60_000_000);
  await fill(5);
  release();
  await expect.poll(logSize, PATIENCE).toBeLessThan(MAX_LOG_BYTES);
  for (const ref of refs) expect(Buffer.compare((await keptOf(db, ref))?.body ?? BODY.subarray(1), BODY)).toBe(0);
  // And afterwards all is as before.
  await fill(60);
  expect(logSize()).toBeLessThan(MAX_LOG_BYTES);
  const other = new BetterSqlite3(file, { readonly: true });
  expect(other.pragma("quick_check", { simple: true })).toBe("ok");
  other.close();
});

test("it shrinks while others go on writing", async () => {
  const { fill, holdReader } = await open();
  const release = holdReader();
  await fill(60);
  await sleep(1_500);
  release();
  const stop = new AbortController();
  const writing = (async () => {
    while (!stop.signal.aborted) await fill(1);
  })();
  await expect.poll(logSize, PATIENCE).toBeLessThan(MAX_LOG_BYTES);
  stop.abort();
  await writing;
});

test("what is deleted is overwritten in the log as well, once it is small", async () => {
  const { db, fill, holdReader } = await open();
  const release = holdReader();
  await fill(40);
  // The thread takes over.
  await sleep(1_500);
  await db.maintenance.scrub();
  expect(logSize()).toBeGreaterThan(MAX_LOG_BYTES);
  release();
  await expect.poll(logSize, PATIENCE).toBeLessThan(MAX_LOG_BYTES);
  await db.maintenance.scrub();
  expect(logSize()).toBe(0);
});

test("a database that is closed while the log is large has it all in its file", async () => {
  const { fill, holdReader, db } = await open();
  const release = holdReader();
  const refs = await fill(40);
  await sleep(1_500);
  release();
  await db.close();
  expect(existsSync(`${file}-wal`)).toBe(false);
  const again = await openSqlite(file);
  onTestFinished(() => again.close());
  for (const ref of refs) expect(await keptOf(again, ref)).not.toBeNull();
});

test("what is on the disk is told, and free space is used before the file grows", async () => {
  const { db, fill } = await open();
  await db.directory.createProject({ id: "p", createdAt: 1 });
  await db.directory.createStore("p", { id: "s", createdAt: 1, secrets: "one", maxVersions: 1 }, []);
  await fill(10);
  await db.maintenance.scrub();
  const full = await db.diskUse();
  expect(full).toEqual({ database: statSync(file).size, free: 0, log: 0 });
  await db.directory.destroyStore("p", "s", 1);
  while ((await db.maintenance.purgeDestroyed(100, 1_000_000)) > 0);
  const freed = await db.diskUse();
  expect(freed?.free).toBeGreaterThan(9_000_000);
  await fill(9);
  await db.maintenance.scrub();
  expect(statSync(file).size).toBeLessThanOrEqual(freed?.database ?? 0);
});
