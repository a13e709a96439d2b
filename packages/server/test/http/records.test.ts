/** Reading and writing records over HTTP; spec/http.md § Records, § Replay, § Attributes. */

import { HEAD_BYTES, MAX_RECORD_BYTES, MIN_RECORD_BYTES, RECORD_MEDIA_TYPE, toBase64url } from "@tacenda/protocol";
import { beforeEach, describe, expect, test } from "vitest";

import { ROOT_TOKEN, START, errorCode, openWorld, randomRecordPath, sealedRecord, type World } from "../world.js";

const CREATE = { "if-none-match": "*" };
const after = (version: number | string) => ({ "if-match": `"${version}"` });

let world: World;
let path: string;
let writer: string;

beforeEach(async () => {
  world = await openWorld();
  path = randomRecordPath();
  writer = await world.mint("default", [{ stores: ["one"], permissions: ["read", "write"] }]);
});

function put(body: Uint8Array, headers: Record<string, string>, query = "", token = writer): Promise<Response> {
  return world.call("PUT", path + query, { token, body, headers: { "content-type": RECORD_MEDIA_TYPE, ...headers } });
}

function get(query = "", headers: Record<string, string> = {}): Promise<Response> {
  return world.call("GET", path + query, { token: writer, headers });
}

function patch(json: unknown, headers: Record<string, string>, token = writer): Promise<Response> {
  return world.call("PATCH", path, { token, json, headers });
}

async function errorOf(
  answer: Response,
): Promise<{ code: string; current?: { version: number; head: string } | null }> {
  return ((await answer.json()) as { error: { code: string } }).error;
}

async function bytesOf(answer: Response): Promise<Uint8Array> {
  return new Uint8Array(await answer.arrayBuffer());
}

const headOf = (record: Uint8Array) => toBase64url(record.subarray(0, HEAD_BYTES));

describe("writing", () => {
  test("answers 201 for version 1 and 200 after, with the tag and no body", async () => {
    const first = await put(sealedRecord(), CREATE);
    expect([first.status, first.headers.get("etag"), (await bytesOf(first)).length]).toEqual([201, '"1"', 0]);
    const second = await put(sealedRecord(), after(1));
    expect([second.status, second.headers.get("etag")]).toEqual([200, '"2"']);
  });

  test("takes exactly one good precondition", async () => {
    const record = sealedRecord();
    expect(await errorCode(await put(record, {}))).toBe("precondition_required");
    const headerSets: Record<string, string>[] = [
      { ...CREATE, ...after(1) },
      { "if-none-match": '"1"' },
      { "if-none-match": "*, *" },
      { "if-match": "*" },
      { "if-match": 'W/"1"' },
      { "if-match": '"1", "2"' },
      { "if-match": '"0"' },
      { "if-match": '"01"' },
      { "if-match": '"-1"' },
      { "if-match": '"1e3"' },
      { "if-match": "1" },
      { "if-match": '"9007199254740991"' },
      { "if-match": '"9007199254740992"' },
      { "if-match": '"99999999999999999999"' },
    ];
    for (const headers of headerSets) {
      const answer = await put(record, headers);
      expect([answer.status, await errorCode(answer)], JSON.stringify(headers)).toEqual([400, "invalid_request"]);
    }
    expect((await get()).status).toBe(404);
  });

  test("tells the current version and head when another one is expected", async () => {
    const never = await put(sealedRecord(), after(3));
    expect([never.status, (await errorOf(never)).current]).toEqual([412, null]);
    const record = sealedRecord();
    await put(record, CREATE);
    for (const headers of [CREATE, after(2), after(7)]) {
      const answer = await put(sealedRecord(), headers);
      expect(answer.status).toBe(412);
      expect(await errorOf(answer)).toMatchObject({
        code: "version_conflict",
        current: { version: 1, head: headOf(record) },
      });
    }
  });

  test("lets one of many writers of the same version win", async () => {
    await put(sealedRecord(), CREATE);
    const answers = await Promise.all(Array.from({ length: 16 }, () => put(sealedRecord(), after(1))));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, ...Array<number>(15).fill(412)]);
    expect((await get()).headers.get("etag")).toBe('"2"');
  });

  test("succeeds again when the very same write is sent again, also after later ones", async () => {
    const first = sealedRecord();
    const second = sealedRecord();
    for (const [record, headers, status] of [
      [first, CREATE, 201],
      [first, CREATE, 201],
      [second, after(1), 200],
      [second, after(1), 200],
      [first, CREATE, 201],
    ] as const) {
      const answer = await put(record, headers);
      expect(answer.status).toBe(status);
      expect(answer.headers.get("etag")).toBe(status === 201 ? '"1"' : '"2"');
    }
    expect(await bytesOf(await get())).toEqual(second);
    // The bytes of another version do not count.
    expect((await put(second, CREATE)).status).toBe(412);
  });

  test("refuses what is no sealed record", async () => {
    const unknown = (index: number, value: number) => {
      const record = sealedRecord();
      record[index] = value;
      return record;
    };
    for (const body of [
      new Uint8Array(0),
      sealedRecord({ length: MIN_RECORD_BYTES - 1 }),
      unknown(0, 2),
      unknown(1, 0),
      unknown(2, 3),
      unknown(3, 255),
    ]) {
      const answer = await put(body, CREATE);
      expect([answer.status, await errorCode(answer)]).toEqual([400, "invalid_request"]);
    }
  });

  test("takes the longest record and not a byte more", async () => {
    const longest = sealedRecord({ length: MAX_RECORD_BYTES });
    expect((await put(longest, CREATE)).status).toBe(201);
    expect(await bytesOf(await get())).toEqual(longest);
    expect(await errorCode(await put(sealedRecord({ length: MAX_RECORD_BYTES + 1 }), after(1)))).toBe("body_too_large");
  });

  test("takes only octets", async () => {
    for (const type of ["application/json", "application/octet-stream; charset=utf-8", "text/plain"]) {
      const answer = await put(sealedRecord(), { ...CREATE, "content-type": type });
      expect([answer.status, await errorCode(answer)]).toEqual([415, "unsupported_media_type"]);
    }
  });

  test("is answered with a length, although the body is empty", async () => {
    const answer = await put(sealedRecord(), CREATE);
    expect([answer.headers.get("content-length"), answer.headers.get("transfer-encoding")]).toEqual(["0", null]);
    const unchanged = await get("", { "if-none-match": '"1"' });
    expect([unchanged.status, unchanged.headers.get("content-length")]).toEqual([304, null]);
  });

  test("knows no query but purge=earlier, once", async () => {
    for (const query of [
      "?purge=all",
      "?purge=",
      "?Purge=earlier",
      "?purge=earlier&purge=earlier",
      "?version=1",
      "?x",
    ]) {
      expect((await put(sealedRecord(), CREATE, query)).status, query).toBe(400);
    }
    await put(sealedRecord(), CREATE);
    expect((await put(sealedRecord(), after(1), "?purge=earlier")).status).toBe(200);
    expect((await get("?version=1")).status).toBe(404);
    expect((await get()).status).toBe(200);
  });

  test("keeps as many versions as the store says", async () => {
    const store = "/v1/projects/default/stores/one";
    await world.call("PATCH", store, { token: ROOT_TOKEN, json: { maxVersions: 2 } });
    await put(sealedRecord(), CREATE);
    await put(sealedRecord(), after(1));
    await put(sealedRecord(), after(2));
    expect((await get("?version=1")).status).toBe(404);
    expect((await get("?version=2")).status).toBe(200);
  });

  test("needs delete as well for tombstones and moved marks", async () => {
    const deleter = await world.mint("default", [{ stores: ["*"], permissions: ["write", "delete"] }]);
    for (const state of [1, 2]) {
      const answer = await put(sealedRecord({ state }), CREATE);
      expect([answer.status, await errorCode(answer)]).toEqual([403, "permission_denied"]);
    }
    expect((await put(sealedRecord({ state: 1 }), CREATE, "", deleter)).status).toBe(201);
    expect((await put(sealedRecord({ state: 2 }), after(1), "?purge=earlier", deleter)).status).toBe(200);
    expect((await get()).status).toBe(200);
  });

  test("is not found in a store that does not exist", async () => {
    const token = await world.mint("default", [{ stores: ["*"], permissions: ["read", "write"] }]);
    path = randomRecordPath("three");
    expect(await errorCode(await put(sealedRecord(), CREATE, "", token))).toBe("not_found");
    expect(await errorCode(await world.call("GET", path, { token }))).toBe("not_found");
  });
});

describe("reading", () => {
  test("gives the bytes, the tag and when it was stored", async () => {
    const record = sealedRecord();
    await put(record, CREATE);
    const answer = await get();
    expect(answer.status).toBe(200);
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      etag: '"1"',
      "content-type": RECORD_MEDIA_TYPE,
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      "tacenda-created-at": String(START),
    });
    expect(answer.headers.has("tacenda-attributes")).toBe(false);
    expect(await bytesOf(answer)).toEqual(record);
  });

  test("gives earlier versions by number, and says when one is not there", async () => {
    const records = [sealedRecord(), sealedRecord()];
    await put(records[0] ?? new Uint8Array(), CREATE);
    await put(records[1] ?? new Uint8Array(), after(1));
    expect(await bytesOf(await get("?version=1"))).toEqual(records[0]);
    expect(await bytesOf(await get("?version=2"))).toEqual(records[1]);
    expect(await errorCode(await get("?version=3"))).toBe("record_not_found");
    for (const version of ["", "0", "01", "-1", "1.0", "1e0", "9007199254740992", "Infinity", "NaN"]) {
      expect((await get(`?version=${version}`)).status, version).toBe(400);
    }
    expect((await get("?version=1&version=2")).status).toBe(400);
    expect((await get("?list=1")).status).toBe(400);
  });

  test("answers 304 to who has the version", async () => {
    await put(sealedRecord(), CREATE);
    for (const tags of ['"1"', '"7", "1"', 'W/"1"', "*"]) {
      const answer = await get("", { "if-none-match": tags });
      expect([answer.status, answer.headers.get("etag"), (await bytesOf(answer)).length]).toEqual([304, '"1"', 0]);
    }
    expect((await get("", { "if-none-match": '"2"' })).status).toBe(200);
  });

  test("tells absence by a code of its own", async () => {
    expect(await errorCode(await get())).toBe("record_not_found");
  });

  test("ends at the expiry in the seal, earlier versions included", async () => {
    const first = sealedRecord();
    const second = sealedRecord({ expiresAt: START + 1_000 });
    await put(first, CREATE);
    await put(second, after(1));
    expect((await get()).status).toBe(200);
    world.clock.now = START + 999;
    expect((await get()).status).toBe(200);
    world.clock.now = START + 1_000;
    for (const query of ["", "?version=1", "?version=2"]) {
      const answer = await get(query, { "if-none-match": '"2"' });
      expect(answer.status).toBe(410);
      expect(await errorOf(answer)).toMatchObject({
        code: "record_expired",
        current: { version: 2, head: headOf(second) },
      });
    }
    expect((await put(sealedRecord(), after(2))).status).toBe(200);
    expect((await get()).status).toBe(200);
    // An earlier version's own expiry holds as well.
    expect((await errorOf(await get("?version=2"))).current).toEqual({ version: 2, head: headOf(second) });
  });
});

describe("listing versions", () => {
  const list = (token = writer) => world.call("GET", `${path}/versions`, { token });

  test("tells number, time and size of what is kept, the newest first", async () => {
    await put(sealedRecord(), CREATE);
    world.clock.now = START + 5;
    await put(sealedRecord({ length: 1_000 }), after(1));
    const answer = await list();
    expect([answer.status, await answer.json()]).toEqual([
      200,
      {
        versions: [
          { version: 2, createdAt: START + 5, size: 1_000 },
          { version: 1, createdAt: START, size: MIN_RECORD_BYTES },
        ],
      },
    ]);
  });

  test("tells of an expired record, whose reads are refused", async () => {
    await put(sealedRecord({ expiresAt: START + 1 }), CREATE);
    world.clock.now = START + 1;
    expect((await get()).status).toBe(410);
    expect((await list()).status).toBe(200);
  });

  test("is refused as a read is", async () => {
    expect(await errorCode(await list())).toBe("record_not_found");
    await put(sealedRecord(), CREATE);
    await patch({ active: false }, after(1));
    const inactive = await list();
    expect([inactive.status, await errorCode(inactive)]).toEqual([403, "record_inactive"]);
    const writeOnly = await world.mint("default", [{ stores: ["one"], permissions: ["write"] }]);
    expect(await errorCode(await list(writeOnly))).toBe("permission_denied");
  });
});

describe("attributes", () => {
  let manager: string;

  beforeEach(async () => {
    manager = await world.mint("default", [{ stores: ["*"], permissions: ["manage"] }]);
    await put(sealedRecord(), CREATE);
  });

  test("protected refuses deletion, moving and purging, and nothing else", async () => {
    const set = await patch({ protected: true }, after(1));
    expect([set.status, set.headers.get("etag"), await set.json()]).toEqual([
      200,
      '"1"',
      { protected: true, active: true },
    ]);
    expect((await get()).headers.get("tacenda-attributes")).toBe("protected");
    for (const [state, query] of [
      [1, ""],
      [2, ""],
      [0, "?purge=earlier"],
    ] as const) {
      expect(await errorCode(await put(sealedRecord({ state }), after(1), query, manager))).toBe("record_protected");
    }
    expect((await put(sealedRecord(), after(1))).status).toBe(200);
    expect((await get()).headers.get("tacenda-attributes")).toBe("protected");
  });

  test("a write that has happened is found again although the record is protected since", async () => {
    const tombstone = sealedRecord({ state: 1 });
    await put(tombstone, after(1), "", manager);
    await patch({ protected: true }, after(2));
    expect((await put(tombstone, after(1), "", manager)).status).toBe(200);
    expect((await put(sealedRecord({ state: 1 }), after(1), "", manager)).status).toBe(412);
  });

  test("clearing protection needs manage", async () => {
    await patch({ protected: true }, after(1));
    expect(await errorCode(await patch({ protected: false }, after(1)))).toBe("permission_denied");
    expect((await get()).headers.get("tacenda-attributes")).toBe("protected");
    const cleared = await patch({ protected: false }, after(1), manager);
    expect(await cleared.json()).toEqual({ protected: false, active: true });
    expect((await put(sealedRecord({ state: 1 }), after(1), "", manager)).status).toBe(200);
  });

  test("inactive refuses reads, not writes", async () => {
    expect(await (await patch({ active: false }, after(1))).json()).toEqual({ protected: false, active: false });
    for (const query of ["", "?version=1"]) {
      const answer = await get(query, { "if-none-match": '"1"' });
      expect([answer.status, await errorCode(answer)]).toEqual([403, "record_inactive"]);
    }
    expect((await put(sealedRecord(), after(1))).status).toBe(200);
    expect(await errorCode(await get())).toBe("record_inactive");
    await patch({ active: true }, after(2));
    expect((await get()).status).toBe(200);
  });

  test("changes both at once, and only at the expected version", async () => {
    const both = await patch({ protected: true, active: false }, after(1));
    expect(await both.json()).toEqual({ protected: true, active: false });
    expect((await patch({ active: true }, after(2))).status).toBe(412);
    expect(await errorCode(await patch({ active: true }, {}))).toBe("precondition_required");
    expect((await patch({ active: true }, { ...after(1), "if-none-match": "*" })).status).toBe(400);
    for (const json of [{}, { active: 1 }, { active: null }, { active: true, deleted: true }, [], "x", null]) {
      expect((await patch(json, after(1))).status, JSON.stringify(json)).toBe(400);
    }
    path = randomRecordPath();
    const never = await patch({ active: false }, after(1));
    expect([never.status, (await errorOf(never)).current]).toEqual([412, null]);
  });
});
