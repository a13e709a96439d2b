/** Comparing secrets without knowing them, over HTTP; spec/http.md § Secret check. */

import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { RECORD_MEDIA_TYPE } from "@tacenda/protocol";
import { beforeEach, describe, expect, test } from "vitest";

import { ROOT_TOKEN, errorCode, openWorld, type World } from "../world.js";

let world: World;
let reader: string;
let writer: string;
let manager: string;

beforeEach(async () => {
  world = await openWorld();
  const grant = async (...permissions: ("read" | "write" | "delete" | "manage")[]) =>
    world.mint("default", [{ stores: ["*"], permissions }]);
  [reader, writer, manager] = await Promise.all([grant("read"), grant("write"), grant("manage")]);
});

const newCheck = () => new Uint8Array(randomBytes(32));
const join64 = (known: Uint8Array, added: Uint8Array) => new Uint8Array([...known, ...added]);

function send(method: string, token: string, body?: Uint8Array, store = "one"): Promise<Response> {
  return world.call(method, `/v1/projects/default/stores/${store}/secret-check`, {
    token,
    ...(body && { body, headers: { "content-type": RECORD_MEDIA_TYPE } }),
  });
}

/** `204`, or the status and code of the error. */
async function put(token: string, body: Uint8Array, store?: string): Promise<string> {
  return outcome(await send("PUT", token, body, store));
}

async function remove(token: string, body?: Uint8Array): Promise<string> {
  return outcome(await send("DELETE", token, body));
}

async function outcome(answer: Response): Promise<string> {
  expect(answer.headers.get("tacenda-secret-check")).toBeNull();
  return answer.status === 204 ? "204" : `${answer.status} ${await errorCode(answer)}`;
}

const MISMATCH = "409 secret_mismatch";
const UNREGISTERED = "404 secret_unregistered";

describe("comparing", () => {
  test("keeps the first check of a writer and compares all others, store by store", async () => {
    const [right, wrong] = [newCheck(), newCheck()];
    expect(await put(reader, right)).toBe(UNREGISTERED);
    expect(await put(writer, right)).toBe("204");
    for (const token of [reader, writer, manager, ROOT_TOKEN]) {
      expect([await put(token, right), await put(token, wrong)]).toEqual(["204", MISMATCH]);
    }
    expect(await put(reader, right, "two")).toBe(UNREGISTERED);
    expect(await put(writer, wrong, "two")).toBe("204");
    expect(await put(reader, right)).toBe("204");
  });

  test("lets one of many first ones win", async () => {
    const checks = Array.from({ length: 8 }, newCheck);
    const outcomes = await Promise.all(checks.map((check) => put(writer, check)));
    expect([...outcomes].sort()).toEqual(["204", ...Array<string>(7).fill(MISMATCH)]);
    expect(await put(reader, checks[outcomes.indexOf("204")] ?? newCheck())).toBe("204");
  });

  test("tells nothing where the store takes any secret, and keeps nothing", async () => {
    await world.call("PATCH", "/v1/projects/default/stores/one", { token: manager, json: { secrets: "any" } });
    for (const body of [newCheck(), newCheck(), join64(newCheck(), newCheck())]) {
      const answer = await send("PUT", reader, body);
      expect([answer.status, answer.headers.get("tacenda-secret-check")]).toEqual([204, "off"]);
    }
    expect(await world.directory.secretChecks("default", "one")).toEqual([]);
  });

  test("keeps only what the database's reader cannot compare", async () => {
    const check = Buffer.from(newCheck());
    await put(writer, check);
    await put(writer, check, "two");
    const [one, two] = await Promise.all(["one", "two"].map((store) => world.directory.secretChecks("default", store)));
    expect(one?.[0]?.digest).toHaveLength(32);
    expect(one?.[0]?.digest).not.toEqual(two?.[0]?.digest);
    for (const file of ["tacenda.db", "tacenda.db-wal"]) {
      const bytes = await readFile(join(world.folder, "data", file));
      expect(bytes.includes(check)).toBe(false);
    }
  });

  test("survives a restart of the server's keys", async () => {
    const check = newCheck();
    await put(writer, check);
    world.keys.forget("default", "one");
    expect([await put(reader, check), await put(reader, newCheck())]).toEqual(["204", MISMATCH]);
  });
});

describe("changing the secret", () => {
  test("adds a second check for who knows the first, and no third", async () => {
    const [old, next, third] = [newCheck(), newCheck(), newCheck()];
    expect(await put(writer, join64(old, next))).toBe(UNREGISTERED);
    await put(writer, old);
    expect(await put(writer, join64(third, next))).toBe(MISMATCH);
    expect(await put(reader, join64(old, next))).toBe(UNREGISTERED);
    expect(await put(reader, join64(third, next))).toBe(MISMATCH);
    expect(await put(reader, next)).toBe(MISMATCH);
    expect(await put(writer, join64(old, old))).toBe("204");
    expect(await put(writer, join64(old, next))).toBe("204");
    for (const body of [old, next, join64(old, next), join64(next, old)]) expect(await put(reader, body)).toBe("204");
    // A client that still names a secret whose check was removed.
    expect(await put(reader, join64(third, next))).toBe("204");
    expect(await put(writer, join64(next, third))).toBe(MISMATCH);
    expect(await put(reader, third)).toBe(MISMATCH);
  });

  test("lets one of many second ones win", async () => {
    const old = newCheck();
    await put(writer, old);
    const added = Array.from({ length: 8 }, newCheck);
    const outcomes = await Promise.all(added.map((check) => put(writer, join64(old, check))));
    expect([...outcomes].sort()).toEqual(["204", ...Array<string>(7).fill(MISMATCH)]);
  });

  test("ends when the administrator removes the old one, or all", async () => {
    const [old, next, third] = [newCheck(), newCheck(), newCheck()];
    expect(await remove(manager)).toBe(UNREGISTERED);
    await put(writer, old);
    await put(writer, join64(old, next));
    for (const token of [reader, writer]) expect(await remove(token, old)).toBe("403 permission_denied");
    expect(await remove(manager, third)).toBe(MISMATCH);
    expect(await remove(manager, old)).toBe("204");
    expect([await put(reader, old), await put(reader, next)]).toEqual([MISMATCH, "204"]);
    expect(await put(writer, join64(next, third))).toBe("204");
    expect(await remove(manager)).toBe("204");
    expect([await put(reader, next), await put(writer, old)]).toEqual([UNREGISTERED, "204"]);
  });
});

describe("mismatches", () => {
  test("are told ten times a minute and token, however many ask at once", async () => {
    const right = newCheck();
    await put(writer, right);
    for (let index = 0; index < 20; index++) expect(await put(reader, right)).toBe("204");
    const answers = await Promise.all(Array.from({ length: 30 }, () => send("PUT", reader, newCheck())));
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses).toEqual([...Array<number>(10).fill(409), ...Array<number>(20).fill(429)]);
    const refused = answers.find(({ status }) => status === 429);
    const wait = Number(refused?.headers.get("retry-after"));
    expect(wait).toBeGreaterThan(50);
    expect(wait).toBeLessThanOrEqual(60);
    // A right one would otherwise be told apart from a wrong one.
    expect(await put(reader, right)).toBe("429 rate_limited");
    expect(await put(writer, right)).toBe("204");
  });
});

describe("what is no check", () => {
  test("is refused", async () => {
    for (const length of [0, 1, 31, 33, 63]) {
      expect(await put(writer, new Uint8Array(length)), String(length)).toBe("400 invalid_request");
    }
    expect(await put(writer, new Uint8Array(65))).toBe("413 body_too_large");
    expect(await remove(manager, new Uint8Array(31))).toBe("400 invalid_request");
    expect(await remove(manager, new Uint8Array(33))).toBe("413 body_too_large");
    const path = "/v1/projects/default/stores/one/secret-check";
    for (const method of ["PUT", "DELETE"]) {
      const answer = await world.call(method, path, { token: manager, json: {} });
      expect(answer.status).toBe(415);
    }
  });

  test("is not found in a store that does not exist", async () => {
    expect(await put(ROOT_TOKEN, newCheck(), "nothing")).toBe("404 not_found");
    expect(await outcome(await send("DELETE", ROOT_TOKEN, undefined, "nothing"))).toBe("404 not_found");
  });
});
