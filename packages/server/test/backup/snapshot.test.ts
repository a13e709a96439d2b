/** A snapshot is one committed state while others write, and only of tables that this program knows; spec/envelope.md § Backups. */

import { randomBytes } from "node:crypto";
import { join } from "node:path";

import BetterSqlite3 from "better-sqlite3";
import { describe, expect, test } from "vitest";

import { snapshotSource } from "../../src/backup/source.js";
import { openDataSnapshot, openRestoreDirectory } from "../../src/data-directory.js";
import { NewerDatabaseError, OlderDatabaseError } from "../../src/storage/database.js";
import { openSqlite, openSqliteSnapshot } from "../../src/storage/sqlite.js";
import { refTo, writeOf } from "../envelope/world.js";
import { contentsOf, freshFolder, openWorld, SILENT } from "./world.js";

describe("a snapshot", () => {
  test("does not see what is committed after it was opened, whichever parts of it were read before", async () => {
    const world = await openWorld();
    const snapshot = await openSqliteSnapshot(world.file);
    const other = await openSqliteSnapshot(world.file);
    const before = await contentsOf(await snapshotSource(other));
    await other.close();
    await world.records.commit([writeOf(refTo(randomBytes(32)), 1, randomBytes(80))]);
    await world.directory.destroyStore("default", "zeta", 9);
    await world.database.maintenance.purgeDestroyed(100, 1_000_000);
    await world.addStore("default", "newer");
    expect(await contentsOf(await snapshotSource(snapshot))).toEqual(before);
    await snapshot.close();
    const after = await openSqliteSnapshot(world.file);
    expect(await contentsOf(await snapshotSource(after))).not.toEqual(before);
    await after.close();
  });

  test("gives more records, versions and rows than one step takes", async () => {
    const world = await openWorld();
    for (let round = 0; round < 3; round++) {
      const operations = Array.from({ length: 200 }, () => writeOf(refTo(randomBytes(32)), 1, randomBytes(80)));
      await world.database.records.commit(operations);
    }
    for (let index = 0; index < 1_100; index++) await world.directory.setSetting(`n${index}`, "v");
    const snapshot = await openSqliteSnapshot(world.file);
    let records = 0;
    let versions = 0;
    for await (const record of snapshot.records("default", "user-tokens")) {
      records++;
      versions += record.versions.length;
    }
    const settings = new Set<string>();
    for await (const { name } of snapshot.rows("settings")) if (/^n\d+$/.test(name)) settings.add(name);
    await snapshot.close();
    expect([records, versions, settings.size]).toEqual([604, 607, 1_100]);
  });

  test("leaves out versions that are not kept any more, although their rows wait to be purged", async () => {
    const world = await openWorld();
    world.raw.exec("update records set kept_from = 3 where version = 3");
    const snapshot = await openSqliteSnapshot(world.file);
    const kept = new Map<number, number[]>();
    for await (const { version, versions } of snapshot.records("default", "user-tokens")) {
      kept.set(
        version,
        versions.map((row) => row.version),
      );
    }
    await snapshot.close();
    expect(kept.get(3)).toEqual([3]);
    expect(kept.get(2)).toEqual([1, 2]);
  });

  test("is refused of tables of another version, which stay as they are", async () => {
    const world = await openWorld();
    const folder = await freshFolder();
    world.raw.exec("insert into kysely_migration values ('9999_future', '2099-01-01')");
    await expect(openSqliteSnapshot(world.file)).rejects.toThrow(NewerDatabaseError);
    world.raw.exec("delete from kysely_migration where name > '0001'  and name <> '0001_foundation'");
    await expect(openSqliteSnapshot(world.file)).rejects.toThrow(/Start this version of the server on it once/);
    const count = world.raw.prepare("select count(*) from kysely_migration").pluck();
    expect(count.get()).toBe(1);
    await expect(openDataSnapshot(folder)).rejects.toThrow("There is no database in");
  });
});

test("a restore takes a database that is new or empty, and leaves an older one as it is", async () => {
  const folder = await freshFolder();
  const file = join(folder, "tacenda.db");
  // Killed before its tables were made.
  new BetterSqlite3(file).exec("vacuum").close();
  await (await openRestoreDirectory(folder, SILENT)).close();
  const database = await openSqlite(file);
  expect(await database.restoration.isEmpty()).toBe(true);
  await database.directory.setSetting("a", "b");
  expect(await database.restoration.isEmpty()).toBe(false);
  await database.close();
  const raw = new BetterSqlite3(file);
  raw.exec("delete from kysely_migration where name <> '0001_foundation'");
  await expect(openRestoreDirectory(folder, SILENT)).rejects.toThrow(OlderDatabaseError);
  expect(raw.prepare("select count(*) from kysely_migration").pluck().get()).toBe(1);
  raw.close();
});
