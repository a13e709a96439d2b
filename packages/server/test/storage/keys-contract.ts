/** What every database must do with wrapped keys, master keys and re-encryption; key-directory.ts, maintenance.ts. */

import { afterEach, beforeEach, describe, expect, test } from "vitest";

import type { Database } from "../../src/storage/database.js";
import type { StoreKey } from "../../src/storage/key-directory.js";
import type { VersionPlace } from "../../src/storage/maintenance.js";
import { StaleKeyError } from "../../src/storage/record-store.js";
import { bytes, createStore, keptOf, newRef, newStore, write, wrappedKey, type TestDatabase } from "./world.js";

const S = { project: "p", store: "s" };
const A1 = { provider: "local:a", masterVersion: 1 };
const LEASE = { name: "keys", owner: "this test" };
const A2 = { provider: "local:a", masterVersion: 2 };
const BEGIN: VersionPlace = { id: new Uint8Array(0), version: 0 };
const ALL = { maxRows: 1_000, maxBodies: 1_000, maxBytes: 1_000_000 };

export function keysContract(create: () => Promise<TestDatabase>): void {
  let world: TestDatabase;
  let db: Database;
  beforeEach(async () => {
    world = await create();
    db = await world.open();
    await createStore(db);
  });
  afterEach(async () => {
    await db.close();
    await world.remove();
  });

  const outdated = (master = A2) => db.keys.findOutdated(master, null, 100);
  const moved = (key: StoreKey, masterVersion = 2) => ({
    key,
    wrap: { provider: "local:a", masterVersion, wrapped: bytes(60) },
  });

  describe("wraps", () => {
    test("that are not under a master key are found in key order and from a place on", async () => {
      await createStore(db, "p", "t");
      await createStore(db, "q", "a");
      expect(await db.keys.findOutdated(A1, null, 100)).toEqual([]);
      const all = await outdated();
      expect(all.map(({ project, store, purpose }) => `${project}/${store} ${purpose}`)).toEqual(
        ["p/s", "p/t", "q/a"].flatMap((place) => [`${place} data`, `${place} index`]),
      );
      expect(await db.keys.findOutdated(A2, all[1] ?? null, 3)).toEqual(all.slice(2, 5));
      expect(await outdated({ provider: "local:b", masterVersion: 1 })).toHaveLength(6);
    });

    test("are replaced where they are still what was found, and counted", async () => {
      const [data, index] = (await outdated()) as [StoreKey, StoreKey];
      const change = moved(data);
      await db.maintenance.acquireLease(LEASE, 60_000);
      expect(await db.keys.replaceWraps([change, moved({ ...index, wrapped: bytes(60) })], LEASE)).toBe(1);
      expect(await db.keys.replaceWraps([moved(data)], LEASE)).toBe(0);
      const [kept] = await db.keys.wrappedKeys("p", "s");
      expect({ ...S, ...kept }).toEqual({ ...data, ...change.wrap });
      expect(await db.keys.countWraps()).toEqual([
        { ...A1, wraps: 1 },
        { ...A2, wraps: 1 },
      ]);
      expect(await db.keys.storesUnder(A2, 10)).toEqual([S]);
      expect(await db.keys.storesUnder({ ...A1, masterVersion: 3 }, 10)).toEqual([]);
    });
  });

  test("wraps stay as they are when another server has the lease, or nobody", async () => {
    const changes = (await outdated()).map((key) => moved(key));
    expect(await db.keys.replaceWraps(changes, LEASE)).toBeNull();
    await db.maintenance.acquireLease({ ...LEASE, owner: "another" }, 60_000);
    expect(await db.keys.replaceWraps(changes, LEASE)).toBeNull();
    expect(await db.keys.countWraps()).toEqual([{ ...A1, wraps: 2 }]);
  });

  describe("a retired master key", () => {
    test("is one that nothing refers to, and comes back when it is reinstated", async () => {
      expect(await db.keys.retireMaster(A1, 7)).toBe("in_use");
      expect(await db.keys.retireMaster(A2, 7)).toBe("retired");
      expect(await db.keys.retireMaster(A2, 8)).toBe("before");
      expect(await db.keys.retiredMasters()).toEqual([{ ...A2, retiredAt: 7 }]);
      await db.close();
      db = await world.open();
      await db.keys.reinstateMaster(A2);
      expect(await db.keys.retiredMasters()).toEqual([]);
    });

    test("takes no wrap, neither of a new store nor of a new data key nor of an old one", async () => {
      await db.keys.retireMaster(A2, 7);
      const stale = [wrappedKey("index"), wrappedKey("data", { masterVersion: 2 })];
      expect(await db.directory.createStore("p", newStore("t"), stale)).toBe("stale_key");
      expect(await db.directory.getStore("p", "t")).toBeNull();
      expect(await db.keys.addDataKey(S, wrappedKey("data", { version: 2, masterVersion: 2 }))).toBe("stale_key");
      const keys = await outdated();
      await db.maintenance.acquireLease(LEASE, 60_000);
      expect(
        await db.keys.replaceWraps(
          keys.map((key) => moved(key)),
          LEASE,
        ),
      ).toBeNull();
      expect(await outdated()).toEqual(keys);
      await db.keys.reinstateMaster(A2);
      expect(await db.directory.createStore("p", newStore("t"), stale)).toBe("created");
    });
  });

  describe("a new data key", () => {
    test("retires the others, under which nothing is written any more", async () => {
      const ref = newRef();
      await db.records.commit([write(ref, 1, { keyVersion: 1 })]);
      expect(await db.keys.addDataKey(S, wrappedKey("data", { version: 2, createdAt: 90 }))).toBe("added");
      const states = (await db.keys.wrappedKeys("p", "s")).map(({ purpose, version, state }) => [
        purpose,
        version,
        state,
      ]);
      expect(states).toEqual([
        ["data", 1, "retired"],
        ["data", 2, "active"],
        ["index", 1, "active"],
      ]);
      await expect(db.records.commit([write(ref, 2, { keyVersion: 1 })])).rejects.toThrow(StaleKeyError);
      await db.records.commit([write(ref, 2, { keyVersion: 2 })]);
      expect(await db.keys.storesWithDataKeyBefore(90, 10)).toEqual([]);
      expect(await db.keys.storesWithDataKeyBefore(91, 10)).toEqual([S]);
    });

    test("is the next version of a store that is there", async () => {
      for (const version of [1, 3]) {
        expect(await db.keys.addDataKey(S, wrappedKey("data", { version }))).toBe("conflict");
      }
      expect(await db.keys.addDataKey({ ...S, store: "t" }, wrappedKey("data", { version: 2 }))).toBe("conflict");
      const racing = Array.from({ length: 8 }, () => db.keys.addDataKey(S, wrappedKey("data", { version: 2 })));
      expect((await Promise.all(racing)).filter((result) => result === "added")).toHaveLength(1);
    });

    test("lets a retired one be deleted, and none that is active", async () => {
      await db.keys.addDataKey(S, wrappedKey("data", { version: 2 }));
      expect(await db.keys.deleteDataKey(S, 2)).toBe(false);
      expect(await db.keys.deleteDataKey(S, 1)).toBe(true);
      expect(await db.keys.deleteDataKey(S, 1)).toBe(false);
      expect(await db.keys.wrappedKeys("p", "s")).toHaveLength(2);
    });
  });

  describe("re-encryption", () => {
    const startOf = (keyVersion: number) => new Uint8Array([1, 0, 0, 0, keyVersion]);
    const bodyOf = (keyVersion: number) => new Uint8Array([...startOf(keyVersion), ...bytes(95)]);
    const writeMany = async (count: number, keyVersion: number, inBody = keyVersion) => {
      const refs = Array.from({ length: count }, () => newRef());
      const body = () => ({ body: bodyOf(inBody), createdAt: 1, expiresAt: 0 });
      for (const ref of refs) await db.records.commit([write(ref, 1, { keyVersion, write: body() })]);
      return refs.sort((a, b) => Buffer.compare(a.id, b.id));
    };

    test("finds bodies by how they begin in key order, in bounded steps, and only of its store", async () => {
      await createStore(db, "p", "t");
      await db.records.commit([write(newRef("p", "t"), 1, { keyVersion: 1 })]);
      const old = await writeMany(7, 1);
      await db.keys.addDataKey(S, wrappedKey("data", { version: 2 }));
      await writeMany(5, 2);
      const found: string[] = [];
      let place: VersionPlace | null = BEGIN;
      let steps = 0;
      while (place !== null) {
        const step = await db.maintenance.findOutdatedBodies(S, [startOf(2)], place, { ...ALL, maxRows: 2 });
        found.push(...step.rows.map(({ id }) => Buffer.from(id).toString("hex")));
        place = step.next;
        steps++;
      }
      expect(found).toEqual(old.map(({ id }) => Buffer.from(id).toString("hex")));
      expect(steps).toBeGreaterThanOrEqual(6);
      const bounded = await db.maintenance.findOutdatedBodies(S, [startOf(2)], BEGIN, { ...ALL, maxBodies: 2 });
      expect(bounded.rows.map(({ id }) => id)).toEqual([old[0]?.id, old[1]?.id]);
      expect(bounded.next).toEqual({ id: old[1]?.id, version: 1 });
      const small = await db.maintenance.findOutdatedBodies(S, [], BEGIN, { ...ALL, maxBytes: 150 });
      expect(small.rows).toHaveLength(2);
      expect(small.next).toEqual({ id: small.rows[1]?.id, version: 1 });
      const either = [startOf(2), startOf(1)];
      expect((await db.maintenance.findOutdatedBodies(S, either, BEGIN, ALL)).rows).toEqual([]);
    });

    test("finds a body whatever its row says of its data key", async () => {
      await db.keys.addDataKey(S, wrappedKey("data", { version: 2 }));
      const [hidden] = await writeMany(1, 2, 1);
      const { rows, next } = await db.maintenance.findOutdatedBodies(S, [startOf(2)], BEGIN, ALL);
      expect(rows.map(({ id }) => id)).toEqual([hidden?.id]);
      expect(next).toBeNull();
    });

    test("replaces bodies that are still what was found, under a data key that accepts writes", async () => {
      const [one, other] = await writeMany(2, 1);
      if (!one || !other) throw new Error("two");
      await db.keys.addDataKey(S, wrappedKey("data", { version: 2 }));
      const { rows } = await db.maintenance.findOutdatedBodies(S, [startOf(2)], BEGIN, ALL);
      const changes = rows.map(({ id, version, body }) => ({ id, version, before: body, body: bodyOf(2) }));
      expect(await db.maintenance.replaceBodies(S, 1, changes)).toBeNull();
      const [first, second] = changes;
      if (!first || !second) throw new Error("two");
      expect(await db.maintenance.replaceBodies(S, 2, [first, { ...second, before: bytes(100) }])).toBe(1);
      expect((await keptOf(db, one))?.body).toEqual(first.body);
      expect((await keptOf(db, other))?.body).toEqual(second.before);
      expect((await db.maintenance.findOutdatedBodies(S, [startOf(2)], BEGIN, ALL)).rows).toHaveLength(1);
    });

    test("is kept with its place until its end, and begun anew by who asks again", async () => {
      expect(await db.keys.beginReencryption({ ...S, store: "t" }, 5)).toBe(false);
      expect(await db.keys.beginReencryption(S, 5)).toBe(true);
      const begun = await db.keys.reencryption(S);
      if (begun === null) throw new Error("It has begun.");
      const fresh = { ...S, target: 1, id: new Uint8Array(0), version: 0, damaged: 0, begunAt: 5, endedAt: null };
      expect(begun).toEqual({ ...fresh, run: begun.run });
      const further = { ...begun, id: bytes(32), version: 4, damaged: 2 };
      await db.keys.saveReencryption(further);
      await db.close();
      db = await world.open();
      expect(await db.keys.reencryptions()).toEqual([further]);

      // At the same moment by the clock, which may have been set back.
      await db.keys.addDataKey(S, wrappedKey("data", { version: 2 }));
      expect(await db.keys.beginReencryption(S, 5)).toBe(true);
      await db.keys.saveReencryption(further);
      await db.keys.endReencryption(further);
      const anew = await db.keys.reencryption(S);
      if (anew === null) throw new Error("It has begun anew.");
      expect(anew).toEqual({ ...fresh, target: 2, run: anew.run });
      expect(anew.run).not.toBe(begun.run);
      await db.keys.saveReencryption({ ...anew, damaged: 1, endedAt: 9 });
      expect(await db.keys.reencryption(S)).toMatchObject({ damaged: 1, endedAt: 9 });
      await db.keys.endReencryption(anew);
      expect(await db.keys.reencryptions()).toEqual([]);
    });

    test("ends with its store, and with its project", async () => {
      await createStore(db, "q", "s");
      await db.keys.beginReencryption(S, 5);
      await db.keys.beginReencryption({ project: "q", store: "s" }, 5);
      await db.directory.destroyStore("p", "s", 9);
      await db.directory.destroyProject("q", 9);
      expect(await db.keys.reencryptions()).toEqual([]);
    });
  });

  test("all leases can be ended", async () => {
    await db.maintenance.acquireLease({ name: "one", owner: "gone" }, 1_000_000);
    expect(await db.maintenance.acquireLease({ name: "one", owner: "here" }, 1_000)).toBe(false);
    await db.maintenance.clearLeases();
    expect(await db.maintenance.acquireLease({ name: "one", owner: "here" }, 1_000)).toBe(true);
  });
}
