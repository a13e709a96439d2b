/** The envelope over a real database: what it stores, what it detects, how it follows key changes; spec/envelope.md. */

import { randomBytes } from "node:crypto";

import { MAX_VERSION } from "@tacenda/protocol";
import { describe, expect, test, vi } from "vitest";

import { DamagedRecordError, StoreGoneError } from "../../src/envelope/errors.js";
import { KeyProviderError } from "../../src/envelope/key-provider.js";
import { StaleKeyError, type ReadRef } from "../../src/storage/record-store.js";
import * as reference from "./reference.js";
import { openWorld, refTo, writeOf, type World } from "./world.js";

interface VersionRow {
  record_id: Buffer;
  version: number;
  key_version: number;
  body: Buffer;
}

const versionRows = ({ raw }: World) =>
  raw.prepare<[], VersionRow>("select record_id, version, key_version, body from record_versions order by rowid").all();

async function put(world: World, ref: ReadRef, body: Uint8Array, version = 1) {
  expect(await world.records.commit([writeOf(ref, version, body)])).toEqual({ applied: true });
}

/** The positions that a read of these refs is refused with. */
async function damage(world: World, refs: ReadRef[]): Promise<readonly number[]> {
  const error: unknown = await world.records.read(refs).catch((reason: unknown) => reason);
  if (!(error instanceof DamagedRecordError)) expect.unreachable(`It was read: ${String(error)}`);
  expect(error.message).not.toMatch(/default|user-tokens/);
  return error.positions;
}

describe("what is stored", () => {
  test("is the blinded id, the encrypted body and the tag of the specification", async () => {
    const world = await openWorld();
    const ref = refTo(randomBytes(32));
    const record = randomBytes(422);
    await put(world, ref, record);

    const [row] = versionRows(world);
    const indexKey = await world.storeKey("index");
    const id = reference.recordId(indexKey, ref.id);
    expect(row).toMatchObject({ record_id: id, version: 1, key_version: 1 });
    const place = { project: "default", store: "user-tokens", recordId: id, version: 1 };
    const body = row?.body ?? expect.unreachable();
    expect(reference.openBody(await world.storeKey("data"), 1, place, body)).toEqual(record);
    const state = world.raw.prepare("select record_id, version, protected, active, tag from records").all();
    const tag = reference.tag(indexKey, place, 2);
    expect(state).toEqual([{ record_id: id, version: 1, protected: 0, active: 1, tag }]);
  });

  test("is read back as it was written, version by version, without its tag", async () => {
    const world = await openWorld();
    const ref = refTo(randomBytes(32));
    const records = [1, 2, 3].map((version) => randomBytes(300 + version));
    for (const [index, record] of records.entries()) await put(world, ref, record, index + 1);

    const current = { version: 3, protected: false, active: true };
    const [latest, second, never, missing] = await world.records.read([
      ref,
      { ...ref, version: 2 },
      { ...ref, version: 9 },
      refTo(randomBytes(32)),
    ]);
    expect(latest).toEqual({ current, kept: { version: 3, body: records[2], createdAt: 1_003 } });
    expect(second).toEqual({ current, kept: { version: 2, body: records[1], createdAt: 1_002 } });
    expect(never).toEqual({ current, kept: null });
    expect(missing).toBeNull();
  });

  test("follows attributes, purges and the greatest version", async () => {
    const world = await openWorld();
    const ref = refTo(randomBytes(32));
    await put(world, ref, randomBytes(300));
    const before = { version: 1, protected: false, active: true };
    const after = { version: 1, protected: true, active: false };
    expect(await world.records.commit([{ ref, expect: before, next: after, keepVersions: 10 }])).toEqual({
      applied: true,
    });
    expect((await world.records.read([ref]))[0]?.current).toEqual(after);

    const next = { ...after, version: MAX_VERSION };
    world.raw.prepare("update records set version = ?").run(MAX_VERSION - 1);
    const record = randomBytes(300);
    const write = { body: record, expiresAt: 0, createdAt: 1 };
    const expected = { ...after, version: MAX_VERSION - 1 };
    await world.records.commit([{ ref, expect: expected, next, write, purgeEarlier: true, keepVersions: 10 }]);
    expect((await world.records.read([ref]))[0]).toEqual({
      current: next,
      kept: { version: MAX_VERSION, body: record, createdAt: 1 },
    });
    expect(await world.records.read([{ ...ref, version: 1 }])).toEqual([{ current: next, kept: null }]);
  });

  test("is not written when the expectation fails, and the conflict is told", async () => {
    const world = await openWorld();
    const [one, two] = [refTo(randomBytes(32)), refTo(randomBytes(32))];
    await put(world, one, randomBytes(300));
    const operations = [writeOf(two, 1, randomBytes(300)), writeOf(one, 1, randomBytes(300))];
    expect(await world.records.commit(operations)).toEqual({ applied: false, conflicts: [1] });
    expect(await world.records.read([two])).toEqual([null]);
  });

  test("never repeats salt and nonce, nor bytes of equal records", async () => {
    const world = await openWorld({ sealsPerSalt: 10 });
    const record = randomBytes(300);
    await world.records.commit(Array.from({ length: 100 }, () => writeOf(refTo(randomBytes(32)), 1, record)));
    const rows = versionRows(world);
    expect(new Set(rows.map(({ body }) => body.subarray(5, 21).toString("hex"))).size).toBe(10);
    expect(new Set(rows.map(({ body }) => body.subarray(21, 33).toString("hex"))).size).toBe(100);
    expect(new Set(rows.map(({ body }) => body.subarray(33, 65).toString("hex"))).size).toBe(100);
  });
});

describe("one look-up of keys", () => {
  test("serves all reads and writes of one call to one store", async () => {
    const world = await openWorld();
    await world.addStore("default", "other");
    const open = vi.spyOn(world.keys, "open");
    const ids = Array.from({ length: 50 }, () => randomBytes(32));
    const refs = ids.flatMap((id) => [refTo(id), refTo(id, "default", "other")]);
    await world.records.commit(refs.map((ref) => writeOf(ref, 1, randomBytes(300))));
    expect(open.mock.calls).toEqual([
      ["default", "user-tokens", "write"],
      ["default", "other", "write"],
    ]);
    open.mockClear();
    expect(await world.records.read(refs)).not.toContain(null);
    expect(open).toHaveBeenCalledTimes(2);
  });
});

describe("the list of versions", () => {
  test("tells the sizes of the sealed records", async () => {
    const world = await openWorld();
    const ref = refTo(randomBytes(32));
    expect(await world.records.versions(ref)).toBeNull();
    for (const [index, length] of [75, 422].entries()) await put(world, ref, randomBytes(length), index + 1);
    expect(await world.records.versions(ref)).toStrictEqual({
      current: { version: 2, protected: false, active: true },
      versions: [
        { version: 2, createdAt: 1_002, size: 422 },
        { version: 1, createdAt: 1_001, size: 75 },
      ],
    });
    await expect(world.records.versions(refTo(randomBytes(32), "default", "nothing"))).rejects.toThrow(StoreGoneError);
  });

  test.each([
    ["a flag was edited", "update records set active = 0"],
    ["an older version was made current", "update records set version = 1"],
    ["the current version was deleted", "delete from record_versions where version = 2"],
    ["every version was deleted", "delete from record_versions"],
    ["a body was cut off", "update record_versions set body = zeroblob(48) where version = 1"],
  ])("is refused when %s", async (_name, edit) => {
    const world = await openWorld();
    const ref = refTo(randomBytes(32));
    for (const version of [1, 2]) await put(world, ref, randomBytes(400), version);
    world.raw.exec(edit);
    await expect(world.records.versions(ref)).rejects.toThrow(DamagedRecordError);
  });
});

describe("damage", () => {
  test("of any byte of a body is detected, and only that record is affected", async () => {
    const world = await openWorld();
    const [sound, hit] = [refTo(randomBytes(32)), refTo(randomBytes(32))];
    await put(world, sound, randomBytes(100));
    await put(world, hit, randomBytes(100));
    const { body } = versionRows(world)[1] ?? expect.unreachable();
    const update = world.raw.prepare("update record_versions set body = ? where rowid = 2");
    for (let index = 0; index < body.length; index++) {
      const changed = Buffer.from(body);
      changed[index] = (changed[index] ?? 0) ^ (1 << (index % 8));
      update.run(changed);
      expect(await damage(world, [sound, hit, sound]), `byte ${index}`).toEqual([1]);
    }
    for (const wrong of [Buffer.alloc(0), body.subarray(0, -1), Buffer.concat([body, Buffer.alloc(1)])]) {
      update.run(wrong);
      expect(await damage(world, [hit])).toEqual([0]);
    }
    expect((await world.records.read([sound]))[0]).not.toBeNull();
    update.run(body);
    expect((await world.records.read([hit]))[0]).not.toBeNull();
  });

  test("by a body moved to another record, version, store or project is detected", async () => {
    const world = await openWorld();
    await world.addStore("default", "other");
    await world.addStore("acme", "user-tokens");
    const id = randomBytes(32);
    const origin = refTo(id);
    await put(world, origin, randomBytes(100));
    await put(world, origin, randomBytes(100), 2);
    const elsewhere = [refTo(randomBytes(32)), refTo(id, "default", "other"), refTo(id, "acme")];
    for (const ref of elsewhere) await put(world, ref, randomBytes(100));
    const rows = versionRows(world);
    const update = world.raw.prepare("update record_versions set body = ? where rowid = ?");
    for (const [index, ref] of elsewhere.entries()) {
      update.run(rows[0]?.body, 3 + index);
      expect(await damage(world, [origin, ref])).toEqual([1]);
    }
    update.run(rows[1]?.body, 1);
    expect(await damage(world, [{ ...origin, version: 1 }])).toEqual([0]);
    update.run(rows[0]?.body, 2);
    expect(await damage(world, [origin])).toEqual([0]);
  });

  test("by whole rows moved to another record, store or project is detected", async () => {
    const world = await openWorld();
    const [one, two] = [refTo(randomBytes(32)), refTo(randomBytes(32))];
    await put(world, one, randomBytes(100));
    await put(world, two, randomBytes(100));
    const [first, second] = versionRows(world).map((row) => row.record_id);
    const both = (set: string, where: string, ...values: unknown[]) => {
      for (const table of ["records", "record_versions"]) {
        world.raw.prepare(`update ${table} set ${set} where ${where}`).run(...values);
      }
    };
    world.raw.prepare("delete from records where record_id = ?").run(second);
    world.raw.prepare("delete from record_versions where record_id = ?").run(second);
    both("record_id = ?", "record_id = ?", second, first);
    expect(await damage(world, [two])).toEqual([0]);

    both("record_id = ?", "record_id = ?", first, second);
    expect((await world.records.read([one]))[0]).not.toBeNull();
    // Even under the other store's own id for the key hash, and with the keys copied beside.
    for (const [project, store] of [
      ["default", "other"],
      ["acme", "user-tokens"],
    ] as const) {
      await world.addStore(project, store);
      const id = reference.recordId(await world.storeKey("index", 1, project, store), one.id);
      both("project = ?, store = ?, record_id = ?", "true", project, store, id);
      expect(await damage(world, [refTo(one.id, project, store)])).toEqual([0]);
    }
  });

  test.each([
    "version = 2",
    "version = 4",
    "protected = 1",
    "active = 0",
    "tag = null",
    "tag = x'00'",
    "tag = zeroblob(32)",
    "protected = 1, active = 0",
  ])("by edited state is detected: %s", async (edit) => {
    const world = await openWorld();
    const ref = refTo(randomBytes(32));
    for (const version of [1, 2, 3]) await put(world, ref, randomBytes(100), version);
    world.raw.prepare(`update records set ${edit}`).run();
    expect(await damage(world, [ref])).toEqual([0]);
    expect(await damage(world, [{ ...ref, version: 1 }])).toEqual([0]);
  });

  test("by renumbered or deleted versions is detected where it would be served", async () => {
    const world = await openWorld();
    const ref = refTo(randomBytes(32));
    for (const version of [1, 2]) await put(world, ref, randomBytes(100), version);
    world.raw.prepare("delete from record_versions where version = 2").run();
    expect(await damage(world, [ref])).toEqual([0]);
    expect(await damage(world, [{ ...ref, version: 2 }])).toEqual([0]);
    world.raw.prepare("update record_versions set version = 2").run();
    expect(await damage(world, [ref])).toEqual([0]);
  });

  test("by a database that answers with another version than was asked for is detected", async () => {
    const world = await openWorld();
    const ref = refTo(randomBytes(32));
    for (const version of [1, 2]) await put(world, ref, randomBytes(100), version);
    const read = world.database.records.read.bind(world.database.records);
    vi.spyOn(world.database.records, "read").mockImplementation((refs) =>
      read(refs.map((each) => ({ ...each, version: 1 }))),
    );
    expect(await damage(world, [ref])).toEqual([0]);
    expect(await damage(world, [{ ...ref, version: 2 }])).toEqual([0]);
  });
});

describe("a data key changed by another server", () => {
  test("is found by a write, which succeeds under the new one", async () => {
    const world = await openWorld();
    const ref = refTo(randomBytes(32));
    const records = [randomBytes(300), randomBytes(300)] as const;
    await put(world, ref, records[0]);
    await world.rotateDataKey(2);
    await put(world, ref, records[1], 2);
    expect(versionRows(world).map((row) => row.key_version)).toEqual([1, 2]);
    expect((await world.records.read([{ ...ref, version: 1 }]))[0]?.kept?.body).toEqual(records[0]);
    expect((await world.records.read([ref]))[0]?.kept?.body).toEqual(records[1]);
  });

  test("is found by a read of what it sealed", async () => {
    const world = await openWorld();
    const ref = refTo(randomBytes(32));
    await put(world, ref, randomBytes(300));
    await world.rotateDataKey(2);
    const record = randomBytes(300);
    await world.serve().records.commit([writeOf(ref, 2, record)]);
    expect((await world.records.read([ref]))[0]?.kept?.body).toEqual(record);
  });

  test("is loaded a few times only for many writers", async () => {
    const world = await openWorld();
    await put(world, refTo(randomBytes(32)), randomBytes(300));
    await world.rotateDataKey(2);
    const look = vi.spyOn(world.database.keys, "wrappedKeys");
    const ids = Array.from({ length: 64 }, () => randomBytes(32));
    await Promise.all(ids.map((id) => put(world, refTo(id), randomBytes(300))));
    expect(look.mock.calls.length).toBeLessThanOrEqual(3);
    expect(versionRows(world).filter((row) => row.key_version === 2)).toHaveLength(64);
  });

  test("in one of two stores of a batch is found, and the batch is written as a whole", async () => {
    const world = await openWorld();
    await world.addStore("default", "other");
    const id = randomBytes(32);
    const refs = [refTo(id), refTo(id, "default", "other")];
    await world.records.read(refs);
    await world.rotateDataKey(2, "default", "other");
    await world.records.commit(refs.map((ref) => writeOf(ref, 1, randomBytes(300))));
    expect(
      versionRows(world)
        .map((row) => row.key_version)
        .sort(),
    ).toEqual([1, 2]);
    expect(await world.records.read(refs)).not.toContain(null);
  });

  test("again and again ends the write after two more attempts", async () => {
    const world = await openWorld();
    const commit = vi.spyOn(world.database.records, "commit").mockRejectedValue(new StaleKeyError("stale"));
    await expect(world.records.commit([writeOf(refTo(randomBytes(32)), 1, randomBytes(300))])).rejects.toThrow(
      StaleKeyError,
    );
    expect(commit).toHaveBeenCalledTimes(3);
  });

  test("has nothing to do with other failures, which pass unchanged and are not tried again", async () => {
    const world = await openWorld();
    const failure = new Error("The disk is on fire.");
    const commit = vi.spyOn(world.database.records, "commit").mockRejectedValue(failure);
    await expect(world.records.commit([writeOf(refTo(randomBytes(32)), 1, randomBytes(300))])).rejects.toBe(failure);
    expect(commit).toHaveBeenCalledTimes(1);
  });
});

describe("a store that is gone", () => {
  test("takes no write, not even of attributes, although its keys are cached", async () => {
    const world = await openWorld();
    const ref = refTo(randomBytes(32));
    await put(world, ref, randomBytes(300));
    await world.directory.destroyStore("default", "user-tokens", 9);
    await expect(world.records.commit([writeOf(ref, 2, randomBytes(300))])).rejects.toThrow(StoreGoneError);

    const other = await openWorld();
    await put(other, ref, randomBytes(300));
    await other.directory.destroyStore("default", "user-tokens", 9);
    const state = { version: 1, protected: false, active: true };
    const change = { ref, expect: state, next: { ...state, active: false }, keepVersions: 10 };
    await expect(other.records.commit([change])).rejects.toThrow(StoreGoneError);
    await expect(other.records.read([ref])).rejects.toThrow(StoreGoneError);
  });

  test("or never was is not one without records", async () => {
    const world = await openWorld();
    const ref = refTo(randomBytes(32), "default", "nowhere");
    await expect(world.records.read([ref])).rejects.toThrow(StoreGoneError);
    await expect(world.records.commit([writeOf(ref, 1, randomBytes(300))])).rejects.toThrow(StoreGoneError);
  });
});

describe("a body that names a data key which is not among those at hand", () => {
  /** Makes the stored body name another data key, which nobody has. */
  async function misname(world: World, ref: ReadRef) {
    const id = (await world.keys.open("default", "user-tokens"))?.recordId(ref.id);
    const select = world.raw.prepare<[unknown], { body: Buffer }>(
      "select body from record_versions where record_id = ?",
    );
    const { body } = select.get(id) ?? expect.unreachable();
    body.writeUInt32BE(77, 1);
    world.raw.prepare("update record_versions set body = ? where record_id = ?").run(body, id);
  }

  test("costs no call to the provider while nobody has such a key, and no write of others", async () => {
    const world = await openWorld();
    const [bad, good] = [refTo(randomBytes(32)), refTo(randomBytes(32))];
    for (const ref of [bad, good]) await put(world, ref, randomBytes(300));
    await misname(world, bad);
    const unwrap = vi.spyOn(world.keyring, "unwrap").mockRejectedValue(new KeyProviderError("unavailable", "Away."));
    for (let repeat = 0; repeat < 20; repeat++) {
      await expect(world.records.read([bad])).rejects.toBeInstanceOf(DamagedRecordError);
    }
    expect(unwrap).not.toHaveBeenCalled();
    await put(world, good, randomBytes(300), 2);
  });

  test("is read with keys that were loaded after it, even if a load was under way that began before", async () => {
    let now = 0;
    const world = await openWorld();
    const ref = refTo(randomBytes(32));
    await put(world, ref, randomBytes(300));
    let delay = 0;
    const unwrap = world.keyring.unwrap.bind(world.keyring);
    vi.spyOn(world.keyring, "unwrap").mockImplementation(async (wrap, context) => {
      await new Promise((resolve) => setTimeout(resolve, delay));
      return await unwrap(wrap, context);
    });
    const other = world.serve({ ttl: 1_000, grace: 100_000, now: () => now });
    await other.records.read([ref]);
    now = 2_000;
    delay = 400;
    const early = other.records.read([ref]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    delay = 0;
    await world.rotateDataKey(2);
    const record = randomBytes(300);
    await put(world, ref, record, 2);
    const [, late] = await Promise.all([early, other.records.read([ref])]);
    expect(late[0]?.kept?.body).toEqual(record);
  });
});

test("while the key provider is down nothing is read or written, and afterwards all is well", async () => {
  let now = 1_000;
  const world = await openWorld({ now: () => now });
  const ref = refTo(randomBytes(32));
  const record = randomBytes(300);
  await world.serve().records.commit([writeOf(ref, 1, record)]);
  const unwrap = vi
    .spyOn(world.keyring, "unwrap")
    .mockRejectedValue(new KeyProviderError("unavailable", "The key provider does not answer."));
  await expect(world.records.read([ref])).rejects.toMatchObject({ fault: "unavailable" });
  await expect(world.records.commit([writeOf(ref, 2, record)])).rejects.toMatchObject({ fault: "unavailable" });
  unwrap.mockRestore();
  now += 1_000;
  expect((await world.records.read([ref]))[0]?.kept).toEqual({ version: 1, body: record, createdAt: 1_001 });
  await put(world, ref, record, 2);
});

test("reading and writing nothing is nothing", async () => {
  const world = await openWorld();
  expect(await world.records.read([])).toEqual([]);
  expect(await world.records.commit([])).toEqual({ applied: true });
});
