/** The storage contract on real SQLite files, and what only SQLite has: settings, file modes, a full disk, newer files. */

import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import BetterSqlite3 from "better-sqlite3";
import { Kysely, sql } from "kysely";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { NewerDatabaseError } from "../../src/storage/database.js";
import { StorageError, StorageFullError } from "../../src/storage/record-store.js";
import type { Schema } from "../../src/storage/schema.js";
import { openConnection } from "../../src/storage/sqlite-connection.js";
import { sqliteDialect } from "../../src/storage/sqlite-dialect.js";
import { openSqlite } from "../../src/storage/sqlite.js";
import { createSqliteDatabase } from "../../src/storage/sqlite-database.js";
import { storageContract } from "./contract.js";
import { bytes, currentOf, newRef, write, writeVersions } from "./world.js";

storageContract("SQLite", () => {
  const folder = mkdtempSync(join(tmpdir(), "tacenda-storage-"));
  return Promise.resolve({
    open: () => openSqlite(join(folder, "tacenda.db")),
    remove: () => rm(folder, { recursive: true }),
  });
});

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tacenda-sqlite-"));
  file = join(folder, "tacenda.db");
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("settings", () => {
  test("all that durability and secrecy rest on is in force", () => {
    for (const role of ["writer", "reader"] as const) {
      const connection = openConnection(file, role);
      const inForce = (pragma: string) => connection.pragma(pragma, { simple: true });
      expect(inForce("journal_mode")).toBe("wal");
      expect(inForce("synchronous")).toBe(2);
      expect(inForce("secure_delete")).toBe(1);
      expect(inForce("foreign_keys")).toBe(1);
      expect(inForce("busy_timeout")).toBe(5_000);
      expect(inForce("temp_store")).toBe(2);
      expect(inForce("trusted_schema")).toBe(0);
      expect(inForce("query_only")).toBe(role === "reader" ? 1 : 0);
      connection.close();
    }
  });

  test("a deleted value leaves no trace in the file", async () => {
    const db = await openSqlite(file);
    const ref = newRef();
    const marker = "a value that was sealed and then destroyed";
    await db.records.commit([
      write(ref, 1, { write: { body: Buffer.from(marker), createdAt: 1, expiresAt: 0 } }),
      ...Array.from({ length: 20 }, () => write(newRef(), 1)),
    ]);
    await db.close();
    expect(readFileSync(file).includes(marker)).toBe(true);
    const again = await openSqlite(file);
    await again.records.commit([write(ref, 2, { purgeEarlier: true })]);
    await again.close();
    expect(readFileSync(file).includes(marker)).toBe(false);
  });

  test("foreign keys hold", async () => {
    await (await openSqlite(file)).close();
    const connection = openConnection(file, "writer");
    const orphan = "insert into store_keys values ('p', 's', 'data', 1, 'active', 'local', 1, x'00', 1)";
    expect(() => connection.exec(orphan)).toThrow(/FOREIGN KEY/);
    connection.close();
  });
});

describe("files", () => {
  const modes = () =>
    ["", "-wal", "-shm"].map((suffix) => (statSync(file + suffix).mode & 0o777).toString(8)).join(" ");

  test("are readable by their owner only", async () => {
    const db = await openSqlite(file);
    await db.records.commit([write(newRef(), 1)]);
    expect(modes()).toBe("600 600 600");
    await db.close();
    expect(existsSync(`${file}-wal`)).toBe(false);
  });

  test("lose the wider modes that they had", async () => {
    const crashed = await openSqlite(file);
    for (const suffix of ["", "-wal", "-shm"]) chmodSync(file + suffix, 0o644);
    const db = await openSqlite(file);
    expect(modes()).toBe("600 600 600");
    await db.close();
    await crashed.close();
  });

  test("that are no database are refused and left alone", async () => {
    writeFileSync(file, "no database, but something that somebody may need".repeat(100));
    const before = readFileSync(file);
    const refused: unknown = await openSqlite(file).catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(StorageError);
    expect(String(refused)).not.toContain(folder);
    expect(readFileSync(file)).toEqual(before);
    await expect(openSqlite(join(folder, "missing", "tacenda.db"))).rejects.toThrow(StorageError);
  });

  test("of a newer program are refused and left alone", async () => {
    await (await openSqlite(file)).close();
    const newer = new BetterSqlite3(file);
    newer.exec("insert into kysely_migration values ('9999_future', '2099-01-01T00:00:00.000Z')");
    newer.close();
    const before = readFileSync(file);
    await expect(openSqlite(file)).rejects.toThrow(NewerDatabaseError);
    expect(readFileSync(file)).toEqual(before);
    expect(existsSync(`${file}-wal`)).toBe(false);
  });
});

describe("transactions", () => {
  /** Transactions in a write-ahead log: frames that carry the size of the database after a commit. */
  function transactionsInLog(): number {
    const log = readFileSync(`${file}-wal`);
    const frame = 24 + log.readUInt32BE(8);
    const salt = log.subarray(16, 24);
    let count = 0;
    for (let at = 32; at + frame <= log.length; at += frame) {
      if (log.subarray(at + 8, at + 16).equals(salt) && log.readUInt32BE(at + 4) !== 0) count++;
    }
    return count;
  }

  test("commits of one turn share one; commits one after another do not", async () => {
    const db = await openSqlite(file);
    const start = transactionsInLog();
    await Promise.all(Array.from({ length: 100 }, () => db.records.commit([write(newRef(), 1)])));
    expect(transactionsInLog() - start).toBe(1);
    await writeVersions(db, newRef(), 3);
    expect(transactionsInLog() - start).toBe(4);
    await db.close();
  });

  test("a group has a bounded size", async () => {
    const db = await openSqlite(file);
    const start = transactionsInLog();
    const body = bytes(400_000);
    const big = () => write(newRef(), 1, { write: { body, createdAt: 1, expiresAt: 0 } });
    const results = await Promise.all(Array.from({ length: 6 }, () => db.records.commit([big()])));
    expect(results).toEqual(Array.from({ length: 6 }, () => ({ applied: true })));
    expect(transactionsInLog() - start).toBe(3);
    await db.close();
  });

  test("nothing is read that is not committed", async () => {
    const writer = openConnection(file, "writer");
    const db = await createSqliteDatabase(writer, openConnection(file, "reader"));
    const ref = newRef();
    await writeVersions(db, ref, 1);
    writer.exec("begin immediate; update records set version = 9");
    expect((await currentOf(db, ref))?.version).toBe(1);
    writer.exec("rollback");
    await db.close();
  });

  test("one takes the write lock as it begins, and binds integers as integers", async () => {
    const writer = openConnection(file, "writer");
    const other = openConnection(file, "writer");
    other.pragma("busy_timeout = 0");
    const db = new Kysely<Schema>({ dialect: sqliteDialect(writer) });
    await db.transaction().execute(async (transaction) => {
      expect(() => other.exec("begin immediate")).toThrow(/locked/);
      const { rows } = await sql`select typeof(${Number.MAX_SAFE_INTEGER}) as type`.execute(transaction);
      expect(rows).toEqual([{ type: "integer" }]);
    });
    other.exec("begin immediate");
    other.close();
    writer.close();
  });

  test("a failing COMMIT acknowledges nothing, is of unknown outcome, and the next one works", async () => {
    const writer = openConnection(file, "writer");
    const db = await createSqliteDatabase(writer, openConnection(file, "reader"));
    writer.exec(`
      create table parent (id integer primary key);
      create table child (id integer references parent (id) deferrable initially deferred);
      create trigger orphan after insert on records begin insert into child values (1); end;
    `);
    const ref = newRef();
    await expect(db.records.commit([write(ref, 1)])).rejects.toMatchObject({
      name: "StorageError",
      outcome: "unknown",
    });
    expect(await currentOf(db, ref)).toBeNull();
    writer.exec("drop trigger orphan");
    expect(await db.records.commit([write(ref, 1)])).toEqual({ applied: true });
    await db.close();
  });

  test("another process's write lock fails a commit cleanly, and the next one works", async () => {
    const writer = openConnection(file, "writer");
    const db = await createSqliteDatabase(writer, openConnection(file, "reader"));
    writer.pragma("busy_timeout = 20");
    const other = openConnection(file, "writer");
    other.exec("begin immediate");
    const refused: unknown = await db.records.commit([write(newRef(), 1)]).catch((error: unknown) => error);
    expect(refused).toMatchObject({ name: "StorageBusyError", outcome: "none" });
    other.exec("rollback");
    other.close();
    expect(await db.records.commit([write(newRef(), 1)])).toEqual({ applied: true });
    await db.close();
  });
});

describe("a full disk", () => {
  test("refuses the write and all that share its transaction, shows none of it, and recovers", async () => {
    const writer = openConnection(file, "writer");
    const db = await createSqliteDatabase(writer, openConnection(file, "reader"));
    const [kept, small, large] = [newRef(), newRef(), newRef()];
    await writeVersions(db, kept, 1);
    const pages = Number(writer.pragma("page_count", { simple: true }));
    writer.pragma(`max_page_count = ${pages + 20}`);

    const huge = { body: bytes(600_000), createdAt: 1, expiresAt: 0 };
    const progress = { done: false };
    const commits = Promise.allSettled([
      db.records.commit([write(kept, 2), write(small, 1)]),
      db.records.commit([write(large, 1, { write: huge })]),
    ]).finally(() => (progress.done = true));
    const seen = new Set<number | null>();
    while (!progress.done) {
      for (let burst = 0; burst < 50; burst++) seen.add((await currentOf(db, kept))?.version ?? null);
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const result of await commits) {
      expect(result).toMatchObject({ status: "rejected", reason: { name: "StorageFullError", outcome: "none" } });
      expect(result.status === "rejected" && result.reason).toBeInstanceOf(StorageFullError);
    }
    expect([...seen]).toEqual([1]);
    expect((await db.records.read([kept, small, large])).map((record) => record?.current.version)).toEqual([
      1,
      undefined,
      undefined,
    ]);

    expect(await db.records.commit([write(small, 1)])).toEqual({ applied: true });
    writer.pragma("max_page_count = 1000000");
    expect(await db.records.commit([write(large, 1, { write: huge }), write(kept, 2)])).toEqual({ applied: true });
    await db.close();
  });
});

describe("errors", () => {
  test("say nothing of SQL or of what was written", async () => {
    const writer = openConnection(file, "writer");
    const db = await createSqliteDatabase(writer, openConnection(file, "reader"));
    writer.exec("drop table record_versions");
    const failing = [() => db.records.commit([write(newRef("canary"), 1)]), () => db.records.read([newRef("canary")])];
    for (const fail of failing) {
      const error: unknown = await fail().catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(StorageError);
      expect(String(error)).not.toMatch(/record_versions|canary|SQLITE|select|insert/i);
      expect(error).toMatchObject({ outcome: "none", cause: { code: "SQLITE_ERROR" } });
    }
    // What was written before the failure in the same transaction is not there.
    expect(writer.prepare("select count(*) as n from records").get()).toEqual({ n: 0 });
    await db.close();
  });
});
