/** Batches over HTTP; spec/http.md § Batch. */

import { join } from "node:path";
import { randomBytes } from "node:crypto";

import {
  HEAD_BYTES,
  MAX_BATCH_BYTES,
  MAX_RECORD_BYTES,
  encodeKeyHash,
  toBase64url,
  type BatchReadResult,
  type BatchWrite,
  type Conflict,
} from "@tacenda/protocol";
import BetterSqlite3 from "better-sqlite3";
import { beforeEach, describe, expect, test } from "vitest";

import { ROOT_TOKEN, START, errorCode, openWorld, sealedRecord, type World } from "../world.js";

const BATCH = "/v1/projects/default/stores/one/batch";

let world: World;
let token: string;

beforeEach(async () => {
  world = await openWorld();
  token = await world.mint("default", [{ stores: ["one"], permissions: ["read", "write", "delete"] }]);
});

const newKey = () => encodeKeyHash(randomBytes(32));
const newKeys = (count: number) => Array.from({ length: count }, newKey);
const headOf = (record: Uint8Array) => toBase64url(record.subarray(0, HEAD_BYTES));
const pathOf = (key: string) => `/v1/projects/default/stores/one/records/${key}`;

function send(json: unknown, path = BATCH, by = token): Promise<Response> {
  return world.call("POST", path, { token: by, json });
}

/** An operation that writes `record` after version `expect`. */
function writeOf(key: string, expect = 0, record = sealedRecord(), more: Partial<BatchWrite> = {}): BatchWrite {
  return { key, expect, record: Buffer.from(record).toString("base64url"), ...more };
}

async function write(...writes: BatchWrite[]): Promise<void> {
  const answer = await send({ writes });
  expect([answer.status, await answer.json()]).toEqual([
    200,
    { results: writes.map(({ expect }) => ({ version: expect + 1 })) },
  ]);
}

async function read(...reads: { key: string; version?: number }[]): Promise<BatchReadResult[]> {
  const answer = await send({ reads });
  expect(answer.status).toBe(200);
  return ((await answer.json()) as { results: BatchReadResult[] }).results;
}

async function errorOf(answer: Response) {
  return ((await answer.json()) as { error: { code: string; message: string; conflicts?: Conflict[] } }).error;
}

/** What is said of each write that was in the way. */
async function conflictsOf(writes: BatchWrite[]): Promise<Conflict[] | undefined> {
  const answer = await send({ writes });
  const { code, conflicts, ...rest } = await errorOf(answer);
  expect([answer.status, code]).toEqual([412, "version_conflict"]);
  expect(rest).not.toHaveProperty("current");
  return conflicts;
}

describe("reads", () => {
  test("are answered one by one in the order asked", async () => {
    const [plain = "", versioned = "", expiring = "", inactive = "", never = ""] = newKeys(5);
    const records = Array.from({ length: 4 }, () => sealedRecord());
    const [first = sealedRecord(), one = sealedRecord(), two = sealedRecord()] = records;
    const short = sealedRecord({ expiresAt: START + 10 });
    await write(writeOf(plain, 0, first), writeOf(versioned, 0, one), writeOf(expiring, 0, short), writeOf(inactive));
    world.clock.now = START + 10;
    await write(writeOf(versioned, 1, two));
    for (const [key, json] of [
      [plain, { protected: true }],
      [inactive, { active: false }],
    ] as const) {
      const headers = { "if-match": '"1"' };
      expect((await world.call("PATCH", pathOf(key), { token, json, headers })).status).toBe(200);
    }
    const record = (version: number, bytes: Uint8Array, createdAt = START, isProtected = false) => ({
      status: "record",
      version,
      record: toBase64url(bytes),
      createdAt,
      protected: isProtected,
    });
    const asked = [{ key: never }, { key: versioned }, { key: plain }, { key: inactive }, { key: expiring }];
    expect(await read(...asked)).toEqual([
      { status: "absent" },
      record(2, two, START + 10),
      record(1, first, START, true),
      { status: "inactive" },
      { status: "expired", current: { version: 1, head: headOf(short) } },
    ]);
    const versions = await read({ key: plain, version: 2 }, { key: versioned, version: 1 }, { key: never, version: 1 });
    expect(versions).toEqual([{ status: "absent" }, record(1, one), { status: "absent" }]);
  });

  test("take 256 at once and answer each, in as many steps as it takes", async () => {
    const keys = newKeys(256);
    const records = keys.map(() => sealedRecord());
    await write(...keys.map((key, index) => writeOf(key, 0, records[index])));
    const results = await read(...keys.map((key, index) => (index % 3 === 0 ? { key, version: 1 } : { key })));
    expect(results.map((result) => result.status === "record" && result.record)).toEqual(records.map(toBase64url));
  });

  test("that the answer has no room for are to be fetched singly", async () => {
    const keys = newKeys(8);
    for (const key of keys) await write(writeOf(key, 0, sealedRecord({ length: MAX_RECORD_BYTES })));
    const answer = await send({ reads: [...keys, ...newKeys(20)].map((key) => ({ key })) });
    const text = await answer.text();
    expect(text.length).toBeLessThanOrEqual(MAX_BATCH_BYTES);
    const { results } = JSON.parse(text) as { results: BatchReadResult[] };
    // Each is 1,441,914 characters: five fit, and nothing is looked at after the sixth.
    const statuses = results.map(({ status }) => status);
    expect(statuses).toEqual([...Array<string>(5).fill("record"), ...Array<string>(23).fill("fetch_singly")]);
  });

  test("of what was damaged spoil nothing else", async () => {
    const keys = newKeys(4);
    for (const key of keys) await write(writeOf(key));
    for (const key of keys) await write(writeOf(key, 1));
    const raw = new BetterSqlite3(join(world.folder, "data", "tacenda.db"));
    raw.exec("update record_versions set body = zeroblob(400) where rowid in (2, 7)");
    raw.close();
    const statuses = async (...versions: (number | undefined)[]) =>
      (await read(...keys.map((key, i) => ({ key, ...(versions[i] !== undefined && { version: versions[i] }) })))).map(
        ({ status }) => status,
      );
    expect(await statuses()).toEqual(["record", "record", "damaged", "record"]);
    expect(await statuses(1, 1, 1, 1)).toEqual(["record", "damaged", "damaged", "record"]);
  });
});

describe("writes", () => {
  test("happen all or none, and every one in the way is named with its head", async () => {
    const [a = "", b = "", c = "", d = ""] = newKeys(4);
    const current = sealedRecord();
    await write(writeOf(a), writeOf(b, 0, current));
    const writes = [writeOf(a, 1), writeOf(b, 0), writeOf(c, 0), writeOf(d, 3)];
    expect(await conflictsOf(writes)).toEqual([
      { index: 1, current: { version: 1, head: headOf(current) } },
      { index: 3, current: null },
    ]);
    const after = (await read({ key: a }, { key: c })).map((result) =>
      result.status === "record" ? result.version : 0,
    );
    expect(after).toEqual([1, 0]);
  });

  test("of one batch win or lose together against others", async () => {
    const keys = newKeys(20);
    const batches = Array.from({ length: 8 }, (_, index) =>
      (index % 2 === 0 ? keys : [...keys].reverse()).map((key) => writeOf(key)),
    );
    const statuses = await Promise.all(batches.map(async (writes) => (await send({ writes })).status));
    expect(statuses.sort()).toEqual([200, ...Array<number>(7).fill(412)]);
    const records = await read(...keys.map((key) => ({ key })));
    const texts = records.map((result) => (result.status === "record" ? result.record : ""));
    const winners = batches.filter((writes) => writes.every(({ record }) => texts.includes(record)));
    expect(winners).toHaveLength(1);
  });

  test("that were sent before succeed again, also after later ones, and only with every byte the same", async () => {
    const [a = "", b = "", c = ""] = newKeys(3);
    const writes = [writeOf(a), writeOf(b)];
    await write(...writes);
    await write(...writes);
    await write(writeOf(a, 1), writeOf(b, 1), writeOf(c));
    await write(...writes);
    const versionsOf = async (key: string) => {
      const answer = await world.call("GET", `${pathOf(key)}/versions`, { token });
      return ((await answer.json()) as { versions: unknown[] }).versions.length;
    };
    expect([await versionsOf(a), await versionsOf(b)]).toEqual([2, 2]);
    const [first = writeOf(a)] = writes;
    expect((await conflictsOf([first, writeOf(b)]))?.map(({ index }) => index)).toEqual([0, 1]);
    // Half of what was sent before, and something new: no retry.
    expect((await conflictsOf([first, writeOf(newKey())]))?.map(({ index }) => index)).toEqual([0]);
    await write(writeOf(b, 2, sealedRecord(), { purge: "earlier" }));
    expect((await conflictsOf(writes))?.map(({ index }) => index)).toEqual([0, 1]);
  });

  test("can purge, and are refused as a whole where one would delete what is protected", async () => {
    const [a = "", b = ""] = newKeys(2);
    await write(writeOf(a), writeOf(b));
    await write(writeOf(a, 1, sealedRecord({ state: 1 }), { purge: "earlier" }), writeOf(b, 1));
    expect((await read({ key: a, version: 1 }, { key: b, version: 1 })).map(({ status }) => status)).toEqual([
      "absent",
      "record",
    ]);
    await world.call("PATCH", pathOf(b), { token, json: { protected: true }, headers: { "if-match": '"2"' } });
    for (const refused of [
      writeOf(b, 2, sealedRecord({ state: 1 })),
      writeOf(b, 2, sealedRecord(), { purge: "earlier" }),
    ]) {
      const answer = await send({ writes: [writeOf(a, 2), refused] });
      expect([answer.status, await errorCode(answer)]).toEqual([403, "record_protected"]);
      // Whether the version is the expected one comes first.
      expect(await conflictsOf([writeOf(a, 1), refused])).toHaveLength(1);
    }
    await write(writeOf(a, 2), writeOf(b, 2));
    const [kept] = await read({ key: b });
    expect(kept).toMatchObject({ status: "record", version: 3, protected: true });
  });

  test("never go over a moved mark, in a batch or alone; its own retry succeeds", async () => {
    const [key = "", other = ""] = newKeys(2);
    const mark = writeOf(key, 0, sealedRecord({ state: 2 }));
    await write(mark);
    expect(await conflictsOf([writeOf(key, 1), writeOf(other)])).toMatchObject([{ index: 0, current: { version: 1 } }]);
    expect(await read({ key: other })).toEqual([{ status: "absent" }]);
    const headers = { "content-type": "application/octet-stream", "if-match": '"1"' };
    const alone = await world.call("PUT", pathOf(key), { token, body: sealedRecord(), headers });
    expect([alone.status, await errorCode(alone)]).toEqual([412, "version_conflict"]);
    await write(mark);
  });

  test("keep as many versions as the store says", async () => {
    await world.call("PATCH", "/v1/projects/default/stores/one", { token: ROOT_TOKEN, json: { maxVersions: 1 } });
    const key = newKey();
    await write(writeOf(key));
    await write(writeOf(key, 1));
    expect(await read({ key, version: 1 })).toEqual([{ status: "absent" }]);
  });
});

describe("permissions", () => {
  const READS = { reads: [{ key: newKey() }] };
  const WRITES = { writes: [writeOf(newKey())] };
  const TOMBSTONES = { writes: [writeOf(newKey()), writeOf(newKey(), 0, sealedRecord({ state: 1 }))] };
  const MOVES = { writes: [writeOf(newKey(), 0, sealedRecord({ state: 2 }))] };

  test.each([
    [["read"], [200, 403, 403, 403]],
    [["write"], [403, 200, 403, 403]],
    [["delete"], [403, 403, 403, 403]],
    [
      ["read", "delete"],
      [200, 403, 403, 403],
    ],
    [
      ["write", "delete"],
      [403, 200, 200, 200],
    ],
  ] as const)("of a token with %j are those of each operation", async (permissions, expected) => {
    const by = await world.mint("default", [{ stores: ["one"], permissions: [...permissions] }]);
    const answers = [READS, WRITES, TOMBSTONES, MOVES].map((json) => send(json, BATCH, by));
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual(expected);
    const elsewhere = await send(READS, "/v1/projects/default/stores/two/batch", by);
    expect(elsewhere.status).toBe(403);
  });

  test("are decided before the store is looked up, and the store's before the body", async () => {
    const by = await world.mint("default", [{ stores: ["*"], permissions: ["read"] }]);
    const nowhere = "/v1/projects/default/stores/nothing/batch";
    expect((await send(WRITES, nowhere, by)).status).toBe(403);
    for (const json of [READS, WRITES]) {
      const answer = await send(json, nowhere, ROOT_TOKEN);
      expect([answer.status, await errorCode(answer)]).toEqual([404, "not_found"]);
    }
    expect((await send("no batch", "/v1/projects/other/stores/one/batch", by)).status).toBe(404);
  });
});

describe("what is no batch", () => {
  const key = newKey();

  test.each<[string, unknown]>([
    ["nothing", {}],
    ["both", { reads: [{ key }], writes: [writeOf(newKey())] }],
    ["no operations", { reads: [] }],
    ["257 operations", { reads: newKeys(257).map((each) => ({ key: each })) }],
    ["a key twice in reads", { reads: [{ key }, { key, version: 1 }] }],
    ["a key twice in writes", { writes: [writeOf(key), writeOf(key, 1)] }],
    ["a key that is not canonical", { reads: [{ key: `${"A".repeat(42)}B` }] }],
    ["a short key", { reads: [{ key: "A".repeat(42) }] }],
    ["version 0", { reads: [{ key, version: 0 }] }],
    ["a version that is no integer", { reads: [{ key, version: 1.5 }] }],
    ["an unknown field", { reads: [{ key, verison: 1 }] }],
    ["a write that expects nothing", { writes: [{ key, record: "" }] }],
    ["a write after the last version", { writes: [writeOf(key, Number.MAX_SAFE_INTEGER)] }],
    ["a negative version", { writes: [writeOf(key, -1)] }],
    ["another purge", { writes: [{ ...writeOf(key), purge: "all" }] }],
    ["no record", { writes: [{ ...writeOf(key), record: "" }] }],
    ["a short record", { writes: [writeOf(key, 0, sealedRecord({ length: 346 }))] }],
    ["a long record", { writes: [writeOf(key, 0, sealedRecord({ length: MAX_RECORD_BYTES + 1 }))] }],
    ["an unknown state", { writes: [writeOf(key, 0, sealedRecord({ state: 3 }))] }],
    ["padded base64url", { writes: [{ ...writeOf(key), record: `${writeOf(key).record}=` }] }],
    ["lenient base64url", { writes: [{ ...writeOf(key), record: writeOf(key).record.replace(/^./, "*A") }] }],
  ])("is refused: %s", async (_name, json) => {
    const answer = await send(json);
    const { code, message } = await errorOf(answer);
    expect([answer.status, code]).toEqual([400, "invalid_request"]);
    expect(message).not.toContain(key);
  });

  test("is refused beyond 8 MiB before it is read, and quickly when it is a long list of nothing", async () => {
    const headers = { "content-type": "application/json" };
    const long = await world.call("POST", BATCH, { token, headers, body: Buffer.alloc(MAX_BATCH_BYTES + 1, " ") });
    expect([long.status, await errorCode(long)]).toEqual([413, "body_too_large"]);
    const body = `{"reads":[${"1,".repeat(MAX_BATCH_BYTES / 2 - 100)}1]}`;
    const begun = performance.now();
    expect((await world.call("POST", BATCH, { token, headers, body })).status).toBe(400);
    expect(performance.now() - begun).toBeLessThan(3_000);
  });
});
