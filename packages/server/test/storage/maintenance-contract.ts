/** What every database must do for background work; maintenance.ts. */

import { setTimeout as sleep } from "node:timers/promises";

import { afterEach, beforeEach, describe, expect, test } from "vitest";

import type { Database } from "../../src/storage/database.js";
import type { LeaseRef } from "../../src/storage/leases.js";
import type { ExpiryCursor, ScanCursor, ScannedRow } from "../../src/storage/maintenance.js";
import type { RecordRef, WriteOperation } from "../../src/storage/record-store.js";
import {
  bytes,
  createStore,
  keptOf,
  keptVersions,
  newRef,
  write,
  writeLarge,
  writeVersions,
  type TestDatabase,
} from "./world.js";

const MAX = Number.MAX_SAFE_INTEGER;

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
    expect(await db.maintenance.purgeDestroyed(100, 1_000_000)).toBe(0);
    await db.directory.destroyStore("p", "s", 9);
    await db.directory.destroyProject("q", 9);
    // Three versions and one record in each of two stores.
    const steps = [3, 3, 3, 3].map(() => db.maintenance.purgeDestroyed(3, 1_000_000));
    expect(await Promise.all(steps)).toEqual([3, 3, 2, 0]);
    expect((await db.records.read(refs)).map((record) => record?.current.version)).toEqual([
      undefined,
      3,
      3,
      undefined,
    ]);
    expect(await scanAll(10)).toHaveLength(6);
  });

  test("purges large rows a few at a time", async () => {
    await createStore(db, "p", "s");
    const refs = Array.from({ length: 5 }, () => newRef("p", "s"));
    for (const ref of refs) await writeLarge(db, ref, 2);
    await db.directory.destroyStore("p", "s", 9);
    // Of ten versions of 300,000 bytes each, then five records.
    const steps = [1, 2, 3, 4, 5].map(() => db.maintenance.purgeDestroyed(100, 700_000));
    expect(await Promise.all(steps)).toEqual([3, 3, 3, 6, 0]);
    expect(await db.records.read(refs)).toEqual(refs.map(() => null));
  });

  test("goes on, also after a restart, with versions that one commit was not to delete", async () => {
    const [ref, other] = [newRef(), newRef()];
    for (const written of [ref, other]) await writeLarge(db, written, 20);
    await db.records.commit([write(ref, 21, { purgeEarlier: true })]);
    expect(await keptVersions(db, ref, 21)).toEqual([21]);
    const left = (await scanAll(100)).length - 21;
    expect(left).toBeGreaterThanOrEqual(16);
    expect(await db.maintenance.purgeDestroyed(100, 700_000)).toBe(3);
    await db.close();
    db = await world.open();
    expect(await keptVersions(db, ref, 21)).toEqual([21]);
    expect((await scanAll(100)).length - 21).toBe(left - 3);

    // What is written meanwhile is not purged.
    await db.records.commit([write(ref, 22, { keepVersions: 100 })]);
    for (let steps = 0; (await db.maintenance.purgeDestroyed(3, 10_000_000)) > 0; steps++) {
      expect(steps).toBeLessThan(10);
    }
    expect(await scanAll(100)).toHaveLength(22);
    expect(await keptVersions(db, ref, 22)).toEqual([21, 22]);
    expect(await keptVersions(db, other, 20)).toHaveLength(20);
  });

  test("forgets what it was to go on with when that is gone with its store", async () => {
    await createStore(db, "p", "s");
    const ref = newRef("p", "s");
    await writeLarge(db, ref, 20);
    await db.records.commit([write(ref, 21, { purgeEarlier: true })]);
    await db.directory.destroyStore("p", "s", 9);
    while ((await db.maintenance.purgeDestroyed(5, 10_000_000)) > 0);
    expect(await scanAll(100)).toEqual([]);
    expect(await db.records.read([ref])).toEqual([null]);
  });

  test("a lease has one holder until it ends or is given back", async () => {
    const { maintenance } = db;
    const lease = (owner: string, name = "work") => ({ name, owner });
    const first = await Promise.all(["a", "b", "c"].map((owner) => maintenance.acquireLease(lease(owner), 60_000)));
    expect(first).toEqual([true, false, false]);
    expect(await maintenance.acquireLease(lease("b", "other"), 60_000)).toBe(true);
    expect(await maintenance.renewLease(lease("b"), 60_000)).toBe(false);
    await maintenance.releaseLease(lease("b"));
    expect(await maintenance.acquireLease(lease("b"), 60_000)).toBe(false);
    await maintenance.releaseLease(lease("a"));
    expect(await maintenance.renewLease(lease("a"), 60_000)).toBe(false);
    expect(await maintenance.acquireLease(lease("b"), 60_000)).toBe(true);
    expect(await maintenance.acquireLease(lease("a"), 60_000)).toBe(false);
  });

  test("a lease ends by the database's clock, and can be renewed until another takes it", async () => {
    const { maintenance } = db;
    const [a, b] = ["a", "b"].map((owner) => ({ name: "work", owner })) as [LeaseRef, LeaseRef];
    expect(await maintenance.acquireLease(a, 400)).toBe(true);
    expect(await maintenance.acquireLease(b, 400)).toBe(false);
    await sleep(450);
    expect(await maintenance.renewLease(a, 400)).toBe(true);
    expect(await maintenance.acquireLease(b, 400)).toBe(false);
    await sleep(450);
    expect(await maintenance.acquireLease(b, 60_000)).toBe(true);
    expect(await maintenance.renewLease(a, 400)).toBe(false);
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

  describe("versions that may have expired", () => {
    const BOUNDS = { maxRows: 100, maxBytes: 1_000_000 };
    const expiring = (ref: RecordRef, version: number, expiresAt: number, more: Partial<WriteOperation> = {}) =>
      write(ref, version, { write: { body: bytes(100), createdAt: 1, expiresAt }, ...more });

    test("are found by their hints, in order, within the bounds", async () => {
      const refs = Array.from({ length: 6 }, () => newRef());
      // Hints 10, 20 … 50, and never.
      await db.records.commit(refs.map((ref, index) => expiring(ref, 1, index === 5 ? 0 : (index + 1) * 10)));
      const hints = async (now: number, bounds = BOUNDS) => {
        const all: number[][] = [];
        let cursor: ExpiryCursor = null;
        do {
          const { rows, next } = await db.maintenance.findExpiring(now, cursor, bounds);
          all.push(rows.map(({ expiresAt }) => expiresAt));
          cursor = next;
        } while (cursor !== null && all.length < 20);
        return all;
      };
      expect(await hints(9)).toEqual([[]]);
      expect(await hints(30)).toEqual([[10, 20, 30]]);
      expect(await hints(MAX)).toEqual([[10, 20, 30, 40, 50]]);
      expect(await hints(MAX, { maxRows: 2, maxBytes: 1_000_000 })).toEqual([[10, 20], [30, 40], [50]]);
      expect(await hints(MAX, { maxRows: 100, maxBytes: 101 })).toEqual([[10, 20], [30, 40], [50]]);
      const { rows } = await db.maintenance.findExpiring(10, null, BOUNDS);
      const [ref] = refs;
      expect(rows).toStrictEqual([{ ...ref, version: 1, expiresAt: 10, body: rows[0]?.body }]);
      expect(rows[0]?.body).toHaveLength(100);
    });

    test("give way to their heads, and the current one to nothing earlier", async () => {
      await createStore(db);
      const [ref, other] = [newRef(), newRef()];
      for (const version of [1, 2, 3]) await db.records.commit([expiring(ref, version, version * 10)]);
      for (const version of [1, 2]) await db.records.commit([expiring(other, version, version === 1 ? 10 : 0)]);
      const head = { body: bytes(5), keyVersion: 1 };
      const change = (of: RecordRef, version: number) => ({ ...of, version, expiresAt: version * 10, hint: 0, head });
      await db.maintenance.changeExpiring([change(ref, 3), change(other, 1)]);
      expect(await keptVersions(db, ref, 3)).toEqual([3]);
      expect(await keptVersions(db, other, 2)).toEqual([1, 2]);
      for (const [of, version] of [
        [ref, 3],
        [other, 1],
      ] as const) {
        expect((await keptOf(db, of, version))?.body).toEqual(head.body);
      }
      expect((await db.maintenance.findExpiring(MAX, null, BOUNDS)).rows).toEqual([]);
      // Versions go on as ever.
      expect(await db.records.commit([write(ref, 4)])).toEqual({ applied: true });
      expect(await keptVersions(db, ref, 4)).toEqual([3, 4]);
    });

    test("keep what is not as the change says, and a body whose key accepts no writes", async () => {
      await createStore(db);
      const ref = newRef();
      await db.records.commit([expiring(ref, 1, 10)]);
      const before = (await keptOf(db, ref))?.body;
      const change = { ...ref, version: 1, expiresAt: 10, hint: 0, head: { body: bytes(5), keyVersion: 1 } };
      await db.maintenance.changeExpiring([
        { ...change, expiresAt: 11 },
        { ...change, version: 2 },
        { ...change, id: bytes(32) },
        { ...change, head: { ...change.head, keyVersion: 2 } },
      ]);
      expect((await keptOf(db, ref))?.body).toEqual(before);
      await db.maintenance.changeExpiring([{ ...ref, version: 1, expiresAt: 10, hint: 70 }]);
      expect((await keptOf(db, ref))?.body).toEqual(before);
      expect((await db.maintenance.findExpiring(69, null, BOUNDS)).rows).toEqual([]);
      expect((await db.maintenance.findExpiring(70, null, BOUNDS)).rows).toHaveLength(1);
    });
  });
}
