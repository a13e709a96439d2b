/** What every database must do for background work; maintenance.ts. */

import { afterEach, beforeEach, expect, test } from "vitest";

import type { Database } from "../../src/storage/database.js";
import type { ScanCursor, ScannedRow } from "../../src/storage/maintenance.js";
import { createStore, newRef, write, writeVersions, type TestDatabase } from "./world.js";

export function maintenanceContract(create: () => Promise<TestDatabase>): void {
  let world: TestDatabase;
  let db: Database;
  beforeEach(async () => {
    world = await create();
    db = await world.open();
  });
  afterEach(async () => {
    await db.close();
    await world.remove();
  });

  async function scanAll(limit: number): Promise<ScannedRow[]> {
    const all: ScannedRow[] = [];
    let cursor: ScanCursor = null;
    do {
      const { rows, next } = await db.maintenance.scan(cursor, limit);
      expect(rows.length).toBeLessThanOrEqual(limit);
      all.push(...rows);
      cursor = next;
    } while (cursor !== null && all.length < 1_000);
    return all;
  }

  test("a scan meets every row once, in key order, whatever the size of its steps", async () => {
    const refs = ["a", "b"].flatMap((project) =>
      ["s", "t"].flatMap((store) => [1, 2].map(() => newRef(project, store))),
    );
    for (const ref of refs) await writeVersions(db, ref, 3);
    const name = (row: Omit<ScannedRow, "body">) =>
      [row.project, row.store, Buffer.from(row.id).toString("hex"), row.version].join("/");
    const expected = refs.flatMap((ref) => [1, 2, 3].map((version) => name({ ...ref, version }))).sort();
    for (const limit of [1, 5, 24, 100]) expect((await scanAll(limit)).map(name)).toEqual(expected);
    expect((await db.maintenance.scan(null, 1)).rows[0]?.body).toHaveLength(100);
  });

  test("a scan of nothing is at its end", async () => {
    expect(await db.maintenance.scan(null, 10)).toEqual({ rows: [], next: null });
  });

  test("purges what belonged to destroyed stores, in steps, and nothing else", async () => {
    for (const store of ["s", "t", "live"]) await createStore(db, "p", store);
    await createStore(db, "q", "s");
    const refs = [newRef("p", "s"), newRef("p", "t"), newRef("p", "live"), newRef("q", "s")];
    for (const ref of refs) await writeVersions(db, ref, 3);
    expect(await db.maintenance.purgeDestroyed(100)).toBe(0);
    await db.directory.destroyStore("p", "s");
    await db.directory.destroyProject("q");
    // Three versions and one record in each of two stores.
    const steps = [3, 3, 3, 3].map(() => db.maintenance.purgeDestroyed(3));
    expect(await Promise.all(steps)).toEqual([3, 3, 2, 0]);
    expect((await db.records.read(refs)).map((record) => record?.current.version)).toEqual([
      undefined,
      3,
      3,
      undefined,
    ]);
    expect(await scanAll(10)).toHaveLength(6);
  });

  test("a lease has one holder until it ends or is given back", async () => {
    const { maintenance } = db;
    const first = await Promise.all(
      ["a", "b", "c"].map((owner) => maintenance.acquireLease("work", owner, 1_000, 500)),
    );
    expect(first).toEqual([true, false, false]);
    expect(await maintenance.acquireLease("other", "b", 1_000, 500)).toBe(true);
    expect(await maintenance.acquireLease("work", "a", 1_400, 500)).toBe(true);
    expect(await maintenance.acquireLease("work", "b", 1_899, 500)).toBe(false);
    expect(await maintenance.acquireLease("work", "b", 1_900, 500)).toBe(true);
    await maintenance.releaseLease("work", "a");
    expect(await maintenance.acquireLease("work", "a", 1_901, 500)).toBe(false);
    await maintenance.releaseLease("work", "b");
    expect(await maintenance.acquireLease("work", "a", 1_901, 500)).toBe(true);
  });

  test("work between a scan and the next step is met or not, but nothing old is skipped", async () => {
    const refs = Array.from({ length: 10 }, () => newRef());
    for (const ref of refs) await db.records.commit([write(ref, 1)]);
    const { rows, next } = await db.maintenance.scan(null, 5);
    for (const ref of refs) await db.records.commit([write(ref, 2)]);
    const rest = await db.maintenance.scan(next, 100);
    const seen = new Set([...rows, ...rest.rows].map((row) => `${Buffer.from(row.id).toString("hex")}/${row.version}`));
    for (const ref of refs) expect(seen).toContain(`${Buffer.from(ref.id).toString("hex")}/1`);
  });
}
