/** What every database must do with records; record-store.ts. */

import { afterEach, beforeEach, describe, expect, test } from "vitest";

import type { Database } from "../../src/storage/database.js";
import { StaleKeyError, StorageError, type RecordRef } from "../../src/storage/record-store.js";
import {
  bytes,
  createStore,
  currentOf,
  keptOf,
  keptVersions,
  newRef,
  PLAIN,
  write,
  writeLarge,
  writeVersions,
  wrappedKey,
  newStore,
  type TestDatabase,
} from "./world.js";

const MAX = Number.MAX_SAFE_INTEGER;

export function recordsContract(create: () => Promise<TestDatabase>): void {
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

  describe("reading and writing", () => {
    test("reads back what was written, as plain bytes", async () => {
      const ref = newRef();
      const tag = bytes(32);
      const operation = write(ref, 1, { next: { version: 1, ...PLAIN, tag } });
      expect(await db.records.commit([operation])).toEqual({ applied: true });
      const [record] = await db.records.read([ref]);
      expect(record).toStrictEqual({
        current: { version: 1, ...PLAIN, tag },
        kept: { version: 1, body: operation.write?.body, createdAt: 1_001 },
      });
    });

    test("reads in the order asked, null where nothing ever was, for every number of refs", async () => {
      const refs = Array.from({ length: 21 }, () => newRef());
      const written = refs.filter((_, index) => index % 3 !== 0);
      await db.records.commit(written.map((ref) => write(ref, 1)));
      for (const count of [0, 1, 2, 3, 5, 8, 21]) {
        const records = await db.records.read(refs.slice(0, count));
        expect(records.map((record) => record !== null)).toEqual(refs.slice(0, count).map((_, i) => i % 3 !== 0));
      }
      expect(await db.records.read([...refs, ...refs])).toHaveLength(42);
      await expect(db.records.read(new Array(257).fill(refs[0]))).rejects.toThrow(RangeError);
    });

    test("tells records apart by project, store, id and version", async () => {
      const ref = newRef("p", "s");
      const others = [{ ...ref, project: "q" }, { ...ref, store: "t" }, newRef("p", "s")];
      await writeVersions(db, ref, 2);
      expect(await db.records.read(others)).toEqual([null, null, null]);
      for (const other of others) await db.records.commit([write(other, 1)]);
      expect((await db.records.read([ref, ...others])).map((record) => record?.current.version)).toEqual([2, 1, 1, 1]);
      const [first, second] = [await keptOf(db, ref, 1), await keptOf(db, ref, 2)];
      expect(first?.body).not.toEqual(second?.body);
      expect([first?.version, second?.version]).toEqual([1, 2]);
    });

    test("gives the current state when the version asked for is not kept", async () => {
      const ref = newRef();
      await writeVersions(db, ref, 2);
      expect(await db.records.read([{ ...ref, version: 7 }])).toStrictEqual([
        { current: { version: 2, ...PLAIN }, kept: null },
      ]);
    });

    test("lists what is kept of one record, the newest first", async () => {
      const ref = newRef();
      expect(await db.records.versions(ref)).toBeNull();
      const tag = bytes(32);
      for (const [index, size] of [0, 10, 1_200_000].entries()) {
        const version = index + 1;
        const next = { version, ...PLAIN, tag };
        const body = { body: bytes(size), createdAt: 1_000 + version, expiresAt: 0 };
        await db.records.commit([write(ref, version, { next, write: body, keepVersions: 2 })]);
      }
      for (const other of [{ ...ref, project: "q" }, { ...ref, store: "t" }, newRef()]) {
        await db.records.commit([write(other, 1)]);
      }
      expect(await db.records.versions(ref)).toStrictEqual({
        current: { version: 3, ...PLAIN, tag },
        versions: [
          { version: 3, createdAt: 1_003, size: 1_200_000 },
          { version: 2, createdAt: 1_002, size: 10 },
        ],
      });
    });

    test("keeps bodies of every size, and ids of zeros", async () => {
      for (const [project, size] of [0, 1, 4_096, 1_200_000].entries()) {
        const ref = { project: `p${project}`, store: "s", id: new Uint8Array(32) };
        const body = bytes(size);
        await db.records.commit([write(ref, 1, { write: { body, createdAt: 1, expiresAt: 0 } })]);
        expect((await keptOf(db, ref))?.body).toEqual(body);
      }
    });

    test("survives closing and opening", async () => {
      const ref = newRef();
      const operations = await writeVersions(db, ref, 3);
      await db.close();
      db = await world.open();
      expect(await keptVersions(db, ref, 4)).toEqual([1, 2, 3]);
      expect((await keptOf(db, ref))?.body).toEqual(operations[2]?.write?.body);
    });

    test("finishes what it accepted before it closes, and accepts nothing afterwards", async () => {
      const refs = Array.from({ length: 30 }, () => newRef());
      const commits = refs.map((ref) => db.records.commit([write(ref, 1)]));
      await db.close();
      expect(await Promise.all(commits)).toEqual(refs.map(() => ({ applied: true })));
      await expect(db.records.commit([write(newRef(), 1)])).rejects.toThrow(StorageError);
      await expect(db.records.read(refs)).rejects.toThrow(StorageError);
      await expect(db.check()).rejects.toThrow(StorageError);
      db = await world.open();
      expect(await db.records.read(refs)).not.toContain(null);
      await db.check();
    });
  });

  describe("conditions", () => {
    test("creates only what never existed", async () => {
      const ref = newRef();
      await db.records.commit([write(ref, 1)]);
      expect(await db.records.commit([write(ref, 1)])).toEqual({ applied: false, conflicts: [0] });
      expect(await currentOf(db, ref)).toEqual({ version: 1, ...PLAIN });
    });

    test("writes only over the version that was expected", async () => {
      const ref = newRef();
      expect(await db.records.commit([write(ref, 2)])).toEqual({ applied: false, conflicts: [0] });
      const operations = await writeVersions(db, ref, 3);
      for (const version of [2, 3, 5]) {
        expect(await db.records.commit([write(ref, version)])).toEqual({ applied: false, conflicts: [0] });
      }
      expect((await keptOf(db, ref))?.body).toEqual(operations[2]?.write?.body);
      expect(await keptVersions(db, ref, 6)).toEqual([1, 2, 3]);
    });

    test("compares attributes too, changes them alone, and stores the new tag", async () => {
      const ref = newRef();
      await db.records.commit([write(ref, 1)]);
      const body = (await keptOf(db, ref))?.body;
      const tag = bytes(32);
      const protect = {
        ref,
        expect: { version: 1, ...PLAIN },
        next: { version: 1, protected: true, active: false, tag },
        keepVersions: 10,
      };
      expect(await db.records.commit([protect])).toEqual({ applied: true });
      expect(await currentOf(db, ref)).toEqual(protect.next);
      expect((await keptOf(db, ref))?.body).toEqual(body);
      for (const wrong of [{ protected: true }, { active: false }, {}]) {
        const expected = { version: 1, ...PLAIN, ...wrong };
        expect(await db.records.commit([write(ref, 2, { expect: expected })])).toEqual({
          applied: false,
          conflicts: [0],
        });
      }
      const right = { version: 1, protected: true, active: false };
      expect(await db.records.commit([write(ref, 2, { expect: right })])).toEqual({ applied: true });
      expect(await currentOf(db, ref)).toEqual({ version: 2, ...PLAIN });
    });

    test("refuses what is no operation, and writes nothing of it", async () => {
      const ref = newRef();
      const other = newRef();
      const wrong = [
        [write(ref, 1), write(ref, 1)],
        [write(other, 1), write(ref, 1, { keepVersions: 0 })],
        [write(other, 1), write(ref, 2, { expect: { version: 5, ...PLAIN } })],
        [write(other, 1), write(ref, 0, { expect: null })],
        [write(other, 1), write(ref, 1.5, { expect: null })],
        [write(other, 1), write(ref, MAX + 1, { expect: null })],
      ];
      for (const operations of wrong) await expect(db.records.commit(operations)).rejects.toThrow(RangeError);
      expect(await db.records.read([ref, other])).toEqual([null, null]);
      expect(await db.records.commit([])).toEqual({ applied: true });
    });
  });

  describe("batches", () => {
    test("write everything or nothing, and name every conflict by its place", async () => {
      const refs = Array.from({ length: 16 }, () => newRef());
      const isTaken = (_: unknown, index: number) => index % 2 === 1;
      for (const ref of refs.filter(isTaken)) await db.records.commit([write(ref, 1)]);
      const batch = refs.map((ref) => write(ref, 1));
      expect(await db.records.commit(batch)).toEqual({ applied: false, conflicts: [1, 3, 5, 7, 9, 11, 13, 15] });
      expect((await db.records.read(refs)).map((record) => record !== null)).toEqual(refs.map(isTaken));
      const mended = refs.map((ref, index) => write(ref, isTaken(ref, index) ? 2 : 1));
      expect(await db.records.commit(mended)).toEqual({ applied: true });
      expect(await db.records.read(refs)).not.toContain(null);
    });

    test("a refused one leaves its neighbours of the same turn alone, and each sees what came before it", async () => {
      const [a, b, c] = [newRef(), newRef(), newRef()];
      const results = await Promise.all([
        db.records.commit([write(a, 1)]),
        db.records.commit([write(a, 1), write(b, 1)]),
        db.records.commit([write(a, 2)]),
        db.records.commit([write(c, 1), write(b, 3)]),
        db.records.commit([write(a, 3), write(b, 1)]),
        db.records.commit([write(c, 1, { keyVersion: 1 })]).catch((error: unknown) => error),
        db.records.commit([write(c, 1)]),
      ]);
      expect(results.slice(0, 5)).toEqual([
        { applied: true },
        { applied: false, conflicts: [0] },
        { applied: true },
        { applied: false, conflicts: [1] },
        { applied: true },
      ]);
      expect(results[5]).toBeInstanceOf(StaleKeyError);
      expect(results[6]).toEqual({ applied: true });
      expect((await db.records.read([a, b, c])).map((record) => record?.current.version)).toEqual([3, 1, 1]);
    });
  });

  describe("concurrency", () => {
    test("200 commits racing on 5 ids: exactly one winner per version, and its body is the one kept", async () => {
      const refs = Array.from({ length: 5 }, () => newRef());
      const winners = new Map<string, Uint8Array[]>();
      async function race(worker: number): Promise<void> {
        const number = worker % refs.length;
        const ref = refs[number] ?? newRef();
        for (let won = false; !won;) {
          const version = ((await currentOf(db, ref))?.version ?? 0) + 1;
          const operation = write(ref, version, { keepVersions: 1_000 });
          won = (await db.records.commit([operation])).applied;
          const body = operation.write?.body;
          if (won && body) winners.set(`${number}/${version}`, [...(winners.get(`${number}/${version}`) ?? []), body]);
        }
      }
      await Promise.all(Array.from({ length: 200 }, (_, worker) => race(worker)));
      expect(winners.size).toBe(200);
      for (const [name, bodies] of winners) {
        const [number = 0, version = 0] = name.split("/").map(Number);
        expect(bodies).toEqual([(await keptOf(db, refs[number] ?? newRef(), version))?.body]);
      }
      expect((await db.records.read(refs)).map((record) => record?.current.version)).toEqual([40, 40, 40, 40, 40]);
    });

    test("a read of several records sees all of a batch or nothing of it, and what was acknowledged", async () => {
      const refs = Array.from({ length: 4 }, () => newRef());
      let acknowledged = 0;
      let done = false;
      const writer = (async () => {
        for (let version = 1; version <= 60; version++) {
          await db.records.commit(refs.map((ref) => write(ref, version)));
          acknowledged = version;
        }
        done = true;
      })();
      const torn: unknown[] = [];
      const late: unknown[] = [];
      const reader = async () => {
        for (let reads = 0; !done; reads++) {
          const floor = acknowledged;
          const versions = (await db.records.read(refs)).map((record) => record?.current.version ?? 0);
          if (new Set(versions).size !== 1) torn.push(versions);
          if ((versions[0] ?? 0) < floor) late.push([floor, versions]);
          if (reads % 50 === 49) await new Promise((resolve) => setImmediate(resolve));
        }
      };
      await Promise.all([writer, reader(), reader()]);
      expect(torn).toEqual([]);
      expect(late).toEqual([]);
    });
  });

  describe("a flood", () => {
    test("is accepted up to a bound, refused beyond it with nothing written, and accepted again later", async () => {
      const body = bytes(1_000_000);
      const refs = Array.from({ length: 100 }, () => newRef());
      const commit = (ref: RecordRef) =>
        db.records.commit([write(ref, 1, { write: { body, createdAt: 1, expiresAt: 0 } })]);
      const commits = refs.map(commit);
      const administration = db.directory.createProject({ id: "meanwhile", createdAt: 1 });
      const results = await Promise.allSettled(commits);
      expect(await administration).toBe("created");
      const accepted = results.map(({ status }) => status === "fulfilled");
      expect(accepted).toEqual(refs.map((_, index) => index < 66));
      expect(results[99]).toMatchObject({ reason: { name: "StorageBusyError", outcome: "none" } });
      expect((await db.records.read(refs)).map((record) => record !== null)).toEqual(accepted);
      for (const ref of refs.slice(66, 70)) expect(await commit(ref)).toEqual({ applied: true });
    });
  });

  describe("retention", () => {
    test("keeps as many versions as asked, also when that becomes less", async () => {
      const ref = newRef();
      for (let version = 1; version <= 6; version++)
        await db.records.commit([write(ref, version, { keepVersions: 3 })]);
      expect(await keptVersions(db, ref, 7)).toEqual([4, 5, 6]);
      await db.records.commit([write(ref, 7, { keepVersions: 1 })]);
      expect(await keptVersions(db, ref, 8)).toEqual([7]);
    });

    test("what is not kept cannot be read, listed or replayed from the commit on, however much it is", async () => {
      const ref = newRef();
      await writeLarge(db, ref, 20);
      await db.records.commit([write(ref, 21, { keepVersions: 3 })]);
      expect(await keptVersions(db, ref, 21)).toEqual([19, 20, 21]);
      expect((await db.records.versions(ref))?.versions.map(({ version }) => version)).toEqual([21, 20, 19]);
      // Keeping more again brings nothing back.
      await db.records.commit([write(ref, 22, { keepVersions: 1_000 })]);
      expect(await keptVersions(db, ref, 22)).toEqual([19, 20, 21, 22]);
      await db.records.commit([write(ref, 23, { purgeEarlier: true })]);
      expect(await keptVersions(db, ref, 23)).toEqual([23]);
      expect((await db.records.versions(ref))?.versions.map(({ version }) => version)).toEqual([23]);
    });

    test("a transaction deletes a bounded amount, however many commits share it", async () => {
      const refs = Array.from({ length: 10 }, () => newRef());
      for (const ref of refs) await writeLarge(db, ref, 3);
      await Promise.all(refs.map((ref) => db.records.commit([write(ref, 4, { purgeEarlier: true })])));
      for (const ref of refs) expect(await keptVersions(db, ref, 4)).toEqual([4]);
      const { rows } = await db.maintenance.scan(null, 100);
      // Four rows of 300,000 bytes are the first to make up a mebibyte.
      expect(rows).toHaveLength(refs.length * 4 - 4);
    });

    test("purges all earlier versions, of this record only, with a write or without", async () => {
      const [ref, other] = [newRef(), newRef()];
      await writeVersions(db, ref, 4);
      await writeVersions(db, other, 4);
      await db.records.commit([write(ref, 5, { purgeEarlier: true })]);
      expect(await keptVersions(db, ref, 6)).toEqual([5]);
      const same = { version: 4, ...PLAIN };
      await db.records.commit([{ ref: other, expect: same, next: same, purgeEarlier: true, keepVersions: 10 }]);
      expect(await keptVersions(db, other, 6)).toEqual([4]);
    });

    test("purges nothing when the commit is refused", async () => {
      const ref = newRef();
      await writeVersions(db, ref, 3);
      await db.records.commit([write(ref, 3, { purgeEarlier: true })]);
      expect(await keptVersions(db, ref, 4)).toEqual([1, 2, 3]);
    });
  });

  describe("big integers", () => {
    test("versions and times are exact up to 2^53−1", async () => {
      const ref = newRef();
      const times = { createdAt: MAX, expiresAt: MAX };
      const first = write(ref, MAX - 2, { expect: null, write: { body: bytes(9), ...times } });
      expect(await db.records.commit([first])).toEqual({ applied: true });
      for (const version of [MAX - 1, MAX]) {
        const operation = write(ref, version, { write: { body: bytes(9), ...times }, keepVersions: 2 });
        expect(await db.records.commit([operation])).toEqual({ applied: true });
      }
      expect(await db.records.commit([write(ref, MAX)])).toEqual({ applied: false, conflicts: [0] });
      const asked = [MAX - 2, MAX - 1, MAX].map((version) => ({ ...ref, version }));
      const records = await db.records.read(asked);
      expect(records.map((record) => record?.kept?.version)).toEqual([undefined, MAX - 1, MAX]);
      expect(records[2]).toMatchObject({ current: { version: MAX }, kept: { createdAt: MAX } });
      const { rows } = await db.maintenance.scan({ ...ref, version: MAX - 1 }, 10);
      expect(rows.map((row) => row.version)).toEqual([MAX]);
    });
  });

  describe("stale keys", () => {
    test("accepts writes under the store's active data key only", async () => {
      await db.directory.createProject({ id: "p", createdAt: 1 });
      await db.directory.createStore("p", newStore("s"), [
        wrappedKey("index", { version: 7 }),
        wrappedKey("data", { version: 1, state: "retired" }),
        wrappedKey("data", { version: 2 }),
      ]);
      const [ref, other] = [newRef(), newRef()];
      expect(await db.records.commit([write(ref, 1, { keyVersion: 2 })])).toEqual({ applied: true });
      for (const keyVersion of [1, 3, 7]) {
        const batch = [write(other, 1, { keyVersion: 2 }), write(ref, 2, { keyVersion })];
        await expect(db.records.commit(batch)).rejects.toThrow(StaleKeyError);
      }
      await expect(db.records.commit([write(newRef("p", "t"), 1, { keyVersion: 2 })])).rejects.toThrow(StaleKeyError);
      expect(await currentOf(db, other)).toBeNull();
      expect(await currentOf(db, ref)).toEqual({ version: 1, ...PLAIN });
    });

    test("refuses writes to a store from the moment it is destroyed", async () => {
      await createStore(db);
      const ref = newRef();
      await db.records.commit([write(ref, 1, { keyVersion: 1 })]);
      const before = db.records.commit([write(ref, 2, { keyVersion: 1 })]);
      const destroyed = db.directory.destroyStore("p", "s", 9);
      const after = db.records.commit([write(ref, 3, { keyVersion: 1 })]);
      await expect(after).rejects.toThrow(StaleKeyError);
      expect(await before).toEqual({ applied: true });
      expect(await destroyed).toHaveLength(2);
    });
  });
}
