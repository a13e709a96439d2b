/** What is left of expired records, and that nothing else is touched; spec/http.md § Reading a record. */

import { randomBytes } from "node:crypto";
import { join } from "node:path";

import { HEAD_BYTES, MAX_RECORD_BYTES, MIN_RECORD_BYTES, RECORD_MEDIA_TYPE, toBase64url } from "@tacenda/protocol";
import BetterSqlite3 from "better-sqlite3";
import { afterEach, describe, expect, onTestFinished, test, vi } from "vitest";

import { createExpiryPurge } from "../src/expiry-purge.js";
import { StorageError } from "../src/storage/record-store.js";
import { openSqlite } from "../src/storage/sqlite.js";
import { openWorld as openEnvelope, refTo, writeOf } from "./envelope/world.js";
import { ROOT_TOKEN, START, openWorld, randomRecordPath, sealedRecord, type World } from "./world.js";

afterEach(() => void vi.useRealTimers());

const INTERVAL = 20;

async function write(world: World, path: string, body: Uint8Array, version: number): Promise<Response> {
  const condition: Record<string, string> =
    version === 1 ? { "if-none-match": "*" } : { "if-match": `"${version - 1}"` };
  const headers = { "content-type": RECORD_MEDIA_TYPE, ...condition };
  return world.call("PUT", path, { token: ROOT_TOKEN, headers, body });
}

interface Row {
  version: number;
  size: number;
  expires_at: number;
}

function rowsOf(world: World): Row[] {
  const raw = new BetterSqlite3(join(world.folder, "data", "tacenda.db"), { readonly: true });
  onTestFinished(() => void raw.close());
  return raw
    .prepare<[], Row>("select version, length(body) as size, expires_at from record_versions order by version")
    .all();
}

const errorOf = async (answer: Response) =>
  [answer.status, ((await answer.json()) as { error: { current?: unknown } }).error.current] as const;

describe("over HTTP", () => {
  test("an expired record loses its ciphertext and its earlier versions, and keeps its head and number", async () => {
    const world = await openWorld({ expiryInterval: INTERVAL });
    const path = randomRecordPath();
    const last = sealedRecord({ expiresAt: START + 1_000, length: 5_000 });
    await write(world, path, sealedRecord(), 1);
    await write(world, path, sealedRecord(), 2);
    await write(world, path, last, 3);
    world.clock.now = START + 999;
    await new Promise((resolve) => setTimeout(resolve, 5 * INTERVAL));
    expect(rowsOf(world)).toHaveLength(3);

    world.clock.now = START + 1_000;
    const head = { version: 3, head: toBase64url(last.subarray(0, HEAD_BYTES)) };
    expect(await errorOf(await world.call("GET", path, { token: ROOT_TOKEN }))).toEqual([410, head]);
    await vi.waitFor(() => expect(rowsOf(world)).toEqual([{ version: 3, size: HEAD_BYTES + 49, expires_at: 0 }]));

    const get = (query = "") => world.call("GET", path + query, { token: ROOT_TOKEN });
    for (const query of ["", "?version=3", "?version=1"]) expect(await errorOf(await get(query))).toEqual([410, head]);
    // A clock that was set back brings nothing back.
    world.clock.now = START;
    expect(await errorOf(await get())).toEqual([410, head]);
    const list = await world.call("GET", `${path}/versions`, { token: ROOT_TOKEN });
    expect(await list.json()).toEqual({ versions: [{ version: 3, createdAt: START, size: HEAD_BYTES }] });
    const key = path.split("/").at(-1);
    const batch = { token: ROOT_TOKEN, json: { reads: [{ key }] } };
    const answer = await world.call("POST", "/v1/projects/default/stores/one/batch", batch);
    expect(await answer.json()).toEqual({ results: [{ status: "expired", current: head }] });

    expect(await errorOf(await write(world, path, sealedRecord(), 1))).toEqual([412, head]);
    expect(await errorOf(await write(world, path, last, 3))).toEqual([412, head]);
    const next = sealedRecord();
    expect((await write(world, path, next, 4)).headers.get("etag")).toBe('"4"');
    expect(new Uint8Array(await (await get()).arrayBuffer())).toEqual(next);
    expect(await errorOf(await get("?version=3"))).toEqual([410, head]);
    expect((await get("?version=2")).status).toBe(404);
  });

  test("an earlier version that has expired loses only its own ciphertext", async () => {
    const world = await openWorld({ expiryInterval: INTERVAL });
    const path = randomRecordPath();
    const records = [sealedRecord(), sealedRecord({ expiresAt: START + 1 }), sealedRecord({ expiresAt: START + 1e9 })];
    for (const [index, record] of records.entries()) await write(world, path, record, index + 1);
    world.clock.now = START + 1;
    await vi.waitFor(() => expect(rowsOf(world)[1]).toMatchObject({ size: HEAD_BYTES + 49, expires_at: 0 }));
    for (const version of [1, 3]) {
      const answer = await world.call("GET", `${path}?version=${version}`, { token: ROOT_TOKEN });
      expect(new Uint8Array(await answer.arrayBuffer())).toEqual(records[version - 1]);
    }
    expect((await world.call("GET", `${path}?version=2`, { token: ROOT_TOKEN })).status).toBe(410);
  });

  test("nothing of the ciphertext is left in the database's file", async () => {
    const world = await openWorld({ expiryInterval: INTERVAL });
    const path = randomRecordPath();
    await write(world, path, sealedRecord({ expiresAt: START + 1, length: MAX_RECORD_BYTES }), 1);
    const raw = new BetterSqlite3(join(world.folder, "data", "tacenda.db"));
    onTestFinished(() => void raw.close());
    const part = raw.prepare<[], Buffer>("select substr(body, 500000, 64) from record_versions").pluck().get();
    world.clock.now = START + 1;
    await vi.waitFor(() => expect(rowsOf(world)[0]?.size).toBe(HEAD_BYTES + 49));
    expect(part).toHaveLength(64);
    expect(raw.serialize().includes(part ?? "")).toBe(false);
  });
});

/** A database with `count` records that expire at START, written below HTTP, and a purge of it. */
async function openExpiring(count: number, bodyLength = MIN_RECORD_BYTES) {
  const world = await openEnvelope();
  const refs = Array.from({ length: count }, () => refTo(randomBytes(32)));
  for (const ref of refs) {
    for (const version of [1, 2]) {
      const body = sealedRecord({ expiresAt: version === 2 ? START : 0, length: bodyLength });
      const operation = writeOf(ref, version, body);
      await world.records.commit([
        { ...operation, write: { body, createdAt: 1, expiresAt: version === 2 ? START : 0 } },
      ]);
    }
  }
  const logged: string[] = [];
  const log = (_fields: object, message: string) => void logged.push(message);
  const logger = { debug() {}, info() {}, warn: log, error: log };
  const clock = { now: START };
  const purgeOf = () => {
    const options = { maintenance: world.database.maintenance, keys: world.keys, logger, now: () => clock.now };
    const purge = createExpiryPurge({ ...options, interval: INTERVAL });
    onTestFinished(() => purge.stop());
    return purge;
  };
  /** Bytes left of the current version of each record that can be read. */
  const sizes = async () => (await world.records.read(refs)).map((record) => record?.kept?.body.length);
  const heads = async () => (await sizes()).filter((size) => size === HEAD_BYTES).length;
  return { ...world, refs, logged, clock, purgeOf, sizes, heads };
}

describe("in steps", () => {
  test("all are reached, whatever their size", async () => {
    const small = await openExpiring(200);
    small.purgeOf().start();
    await vi.waitFor(async () => expect(await small.heads()).toBe(200), { timeout: 5_000 });
    const large = await openExpiring(5, MAX_RECORD_BYTES);
    const commits = vi.spyOn(large.database.maintenance, "changeExpiring");
    large.purgeOf().start();
    await vi.waitFor(async () => expect(await large.heads()).toBe(5), { timeout: 5_000 });
    expect(commits.mock.calls.map(([changes]) => changes.length)).toEqual([1, 1, 1, 1, 1]);
    expect([...small.logged, ...large.logged]).toEqual([]);
  });

  test("one that fails in the middle leaves every record readable, and the next look goes on", async () => {
    const world = await openExpiring(4, MAX_RECORD_BYTES);
    const change = world.database.maintenance.changeExpiring.bind(world.database.maintenance);
    const commits = vi.spyOn(world.database.maintenance, "changeExpiring");
    commits.mockImplementationOnce(change).mockRejectedValueOnce(new StorageError("It failed."));
    const purge = world.purgeOf();
    purge.start();
    await vi.waitFor(() => expect(world.logged).toEqual(["purge of expired records failed"]));
    const sizes = await world.sizes();
    expect(sizes.filter((size) => size === HEAD_BYTES).length).toBeGreaterThanOrEqual(1);
    expect(sizes.filter((size) => size !== HEAD_BYTES && size !== MAX_RECORD_BYTES)).toEqual([]);
    // Another server finds all of it readable, and may not go on while the lease of this one lasts.
    const other = await openSqlite(world.file);
    onTestFinished(() => other.close());
    await vi.waitFor(async () => expect(await world.heads()).toBe(4), { timeout: 5_000 });
    expect(await other.maintenance.findExpiring(START, null, { maxRows: 10, maxBytes: 10 })).toEqual({
      rows: [],
      next: null,
    });
  });

  test("only who holds the lease works, and it ends with a server that was killed", async () => {
    const world = await openExpiring(1);
    await world.database.maintenance.acquireLease({ name: "expiry", owner: "killed" }, 20 * INTERVAL);
    world.purgeOf().start();
    await new Promise((resolve) => setTimeout(resolve, 5 * INTERVAL));
    expect(await world.heads()).toBe(0);
    await vi.waitFor(async () => expect(await world.heads()).toBe(1));
  });

  test("a stopped one does nothing any more", async () => {
    const world = await openExpiring(1);
    const purge = world.purgeOf();
    await purge.stop();
    purge.start();
    await new Promise((resolve) => setTimeout(resolve, 3 * INTERVAL));
    expect(await world.heads()).toBe(0);
  });
});

describe("what the database says is only a hint", () => {
  test("a record whose seal has not expired stays, and its hint is mended", async () => {
    const world = await openExpiring(3);
    const [never, later] = [refTo(randomBytes(32)), refTo(randomBytes(32))];
    const records = [sealedRecord(), sealedRecord({ expiresAt: START + 5 })];
    await world.records.commit([never, later].map((ref, index) => writeOf(ref, 1, records[index] ?? sealedRecord())));
    world.raw.exec(`update record_versions set expires_at = ${START - 1} where expires_at = 0 and version = 1`);
    world.purgeOf().start();
    await vi.waitFor(async () => expect(await world.heads()).toBe(3));
    expect((await world.records.read([never, later])).map((record) => record?.kept?.body)).toEqual(
      records.map((record) => Buffer.from(record)),
    );
    const hints = world.raw.prepare("select distinct expires_at from record_versions order by 1").pluck().all();
    expect(hints).toEqual([0, START + 5]);
  });

  test("a store whose keys cannot be had is left, said, and holds up no other", async () => {
    const world = await openExpiring(3);
    await world.addStore("default", "broken");
    const body = sealedRecord({ expiresAt: START - 1 });
    const first = writeOf(refTo(randomBytes(32), "default", "broken"), 1, body);
    await world.records.commit([{ ...first, write: { body, createdAt: 1, expiresAt: START - 1 } }]);
    world.raw.exec("update store_keys set wrapped = zeroblob(length(wrapped)) where store = 'broken'");
    world.keys.forget("default", "broken");
    world.purgeOf().start();
    await vi.waitFor(async () => expect(await world.heads()).toBe(3));
    await vi.waitFor(() =>
      expect(world.logged).toContain("expired records of stores whose keys cannot be had were left as they are"),
    );
  });

  test("a damaged one is left, said, and holds up no other; one of a destroyed store is left to its purge", async () => {
    const world = await openExpiring(3);
    await world.addStore("default", "gone");
    const gone = refTo(randomBytes(32), "default", "gone");
    const body = sealedRecord({ expiresAt: START });
    const operation = writeOf(gone, 1, body);
    await world.records.commit([{ ...operation, write: { body, createdAt: 1, expiresAt: START } }]);
    await world.directory.destroyStore("default", "gone", 9);
    world.keys.forget("default", "gone");
    const [first] = world.refs;
    const id = (await world.keys.open("default", "user-tokens"))?.recordId(first?.id ?? new Uint8Array());
    world.raw.prepare("update record_versions set body = zeroblob(400) where record_id = ? and version = 2").run(id);
    world.purgeOf().start();
    await vi.waitFor(() => expect(world.logged[0]).toBe("expired records that do not verify were left as they are"));
    const sound = await world.records.read(world.refs.slice(1));
    expect(sound.map((record) => record?.kept?.body.length)).toEqual([HEAD_BYTES, HEAD_BYTES]);
  });

  test("one written under a newer data key than this server knows is opened all the same", async () => {
    const world = await openExpiring(1);
    await world.rotateDataKey(2);
    const other = world.serve();
    const ref = refTo(randomBytes(32));
    const body = sealedRecord({ expiresAt: START });
    await other.records.commit([{ ...writeOf(ref, 1, body), write: { body, createdAt: 1, expiresAt: START } }]);
    world.purgeOf().start();
    await vi.waitFor(async () => {
      const [record] = await world.records.read([ref]);
      expect(record?.kept?.body).toHaveLength(HEAD_BYTES);
    });
    // What was under the retired key is now under the newer one as well.
    await vi.waitFor(async () => expect(await world.heads()).toBe(1));
    const versions = world.raw.prepare("select distinct key_version from record_versions").pluck().all();
    expect(versions).toEqual([2]);
  });
});
