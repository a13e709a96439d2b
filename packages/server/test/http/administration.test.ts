/** Projects, stores and tokens over HTTP, and how strict JSON bodies are; spec/http.md § Administration, § JSON. */

import { RECORD_MEDIA_TYPE, type Grant, type MintedToken } from "@tacenda/protocol";
import { beforeEach, describe, expect, test, vi } from "vitest";

import { ROOT_TOKEN, START, errorCode, openWorld, randomRecordPath, sealedRecord, type World } from "../world.js";

const STORES = "/v1/projects/default/stores";
const TOKENS = "/v1/projects/default/tokens";
const READ: Grant[] = [{ stores: ["*"], permissions: ["read"] }];
const MANAGE: Grant[] = [{ stores: ["*"], permissions: ["manage"] }];

let world: World;

beforeEach(async () => {
  world = await openWorld();
});

function asRoot(method: string, path: string, json?: unknown): Promise<Response> {
  return world.call(method, path, { token: ROOT_TOKEN, ...(json !== undefined && { json }) });
}

async function outcome(answer: Promise<Response>): Promise<[number, string]> {
  const settled = await answer;
  return [settled.status, settled.ok ? "" : await errorCode(settled)];
}

describe("projects", () => {
  test("are created, listed and destroyed; an id is never used again", async () => {
    const created = await asRoot("POST", "/v1/projects", { id: "acme" });
    expect([created.status, await created.json()]).toEqual([
      201,
      { id: "acme", createdAt: START, maxStores: null, maxTokens: null, maxBytes: null },
    ]);
    expect(await outcome(asRoot("POST", "/v1/projects", { id: "acme" }))).toEqual([409, "already_exists"]);
    const { projects } = (await (await asRoot("GET", "/v1/projects")).json()) as { projects: { id: string }[] };
    expect(projects.map(({ id }) => id).sort()).toEqual(["acme", "default", "other"]);
    const token = await world.mint("acme", MANAGE);
    expect(await outcome(asRoot("DELETE", "/v1/projects/acme"))).toEqual([204, ""]);
    expect(await outcome(asRoot("DELETE", "/v1/projects/acme"))).toEqual([404, "not_found"]);
    expect(await outcome(asRoot("POST", "/v1/projects", { id: "acme" }))).toEqual([409, "id_retired"]);
    expect(await outcome(world.call("GET", "/v1/token", { token }))).toEqual([401, "unauthorized"]);
  });
});

describe("quotas", () => {
  const none = { maxStores: null, maxTokens: null, maxBytes: null };

  test("are set with a project or later, and taken away; what is not named stays", async () => {
    const created = await asRoot("POST", "/v1/projects", { id: "acme", maxStores: 1, maxBytes: 10 });
    expect(await created.json()).toEqual({ ...none, id: "acme", createdAt: START, maxStores: 1, maxBytes: 10 });
    const changed = await asRoot("PATCH", "/v1/projects/acme", { maxTokens: 0, maxBytes: null });
    expect([changed.status, await changed.json()]).toEqual([
      200,
      { id: "acme", createdAt: START, maxStores: 1, maxTokens: 0, maxBytes: null },
    ]);
    const { projects } = (await (await asRoot("GET", "/v1/projects")).json()) as { projects: object[] };
    expect(projects).toContainEqual({ id: "acme", createdAt: START, maxStores: 1, maxTokens: 0, maxBytes: null });
    expect(await outcome(asRoot("PATCH", "/v1/projects/nobody", { maxTokens: 0 }))).toEqual([404, "not_found"]);
  });

  test("are whole numbers or null, at least one, and root's alone", async () => {
    for (const body of [{}, { maxStores: -1 }, { maxTokens: 1.5 }, { maxBytes: "1" }, { maxRecords: 1 }, { id: "x" }]) {
      expect(await outcome(asRoot("PATCH", "/v1/projects/default", body)), JSON.stringify(body)).toEqual([
        400,
        "invalid_request",
      ]);
    }
    const token = await world.mint("default", MANAGE);
    const json = { maxStores: 1_000 };
    expect(await outcome(world.call("PATCH", "/v1/projects/default", { token, json }))).toEqual([
      403,
      "permission_denied",
    ]);
    expect(await outcome(world.call("PATCH", "/v1/projects/other", { token, json }))).toEqual([404, "not_found"]);
  });

  test("bound stores and tokens exactly; what is destroyed or deleted makes room", async () => {
    await asRoot("PATCH", "/v1/projects/default", { maxStores: 3, maxTokens: 1 });
    expect(await outcome(asRoot("POST", STORES, { id: "three" }))).toEqual([201, ""]);
    expect(await outcome(asRoot("POST", STORES, { id: "four" }))).toEqual([403, "quota_exceeded"]);
    expect(await outcome(asRoot("POST", STORES, { id: "three" }))).toEqual([409, "already_exists"]);
    await asRoot("DELETE", `${STORES}/three`);
    expect(await outcome(asRoot("POST", STORES, { id: "four" }))).toEqual([201, ""]);
    const token = await world.mint("default", MANAGE);
    const mint = () => world.call("POST", TOKENS, { token, json: { name: "x", grants: READ } });
    expect(await outcome(mint())).toEqual([403, "quota_exceeded"]);
    await asRoot("PATCH", "/v1/projects/default", { maxTokens: 2 });
    expect(await outcome(mint())).toEqual([201, ""]);
    // Below what there is: nothing is lost, and nothing more is made.
    await asRoot("PATCH", "/v1/projects/default", { maxStores: 0, maxTokens: 0 });
    expect(await outcome(asRoot("GET", `${STORES}/four`))).toEqual([200, ""]);
    expect(await outcome(mint())).toEqual([403, "quota_exceeded"]);
    await asRoot("PATCH", "/v1/projects/default", { maxStores: null });
    expect(await outcome(asRoot("POST", STORES, { id: "five" }))).toEqual([201, ""]);
    expect(await outcome(asRoot("POST", "/v1/projects/other/stores", { id: "five" }))).toEqual([201, ""]);
  });
});

describe("a project that was destroyed", () => {
  test("leaves no keys behind, not even of a store that was made meanwhile", async () => {
    await asRoot("POST", "/v1/projects", { id: "acme" });
    const destroy = world.directory.destroyProject.bind(world.directory);
    const spy = vi.spyOn(world.directory, "destroyProject").mockImplementation(async (id, now) => {
      expect((await asRoot("POST", "/v1/projects/acme/stores", { id: "late" })).status).toBe(201);
      expect(await world.keys.open("acme", "late")).not.toBeNull();
      return destroy(id, now);
    });
    expect((await asRoot("DELETE", "/v1/projects/acme")).status).toBe(204);
    spy.mockRestore();
    expect(await world.keys.open("acme", "late")).toBeNull();
    expect(await world.keys.open("default", "one")).not.toBeNull();
  });
});

describe("stores", () => {
  test("are created, read, listed, changed and destroyed", async () => {
    const settings = { id: "three", secrets: "any", maxVersions: 3 };
    const created = await asRoot("POST", STORES, settings);
    expect([created.status, await created.json()]).toEqual([201, { ...settings, createdAt: START }]);
    expect(await outcome(asRoot("POST", STORES, { id: "three" }))).toEqual([409, "already_exists"]);
    expect(await (await asRoot("GET", `${STORES}/one`)).json()).toEqual({
      id: "one",
      secrets: "one",
      maxVersions: 10,
      createdAt: START,
    });
    const changed = await asRoot("PATCH", `${STORES}/three`, { maxVersions: 1_000 });
    expect(await changed.json()).toEqual({ ...settings, maxVersions: 1_000, createdAt: START });
    const { stores } = (await (await asRoot("GET", STORES)).json()) as { stores: object[] };
    expect(stores).toHaveLength(3);
    for (const store of stores)
      expect(Object.keys(store).sort()).toEqual(["createdAt", "id", "maxVersions", "secrets"]);
    expect(await outcome(asRoot("DELETE", `${STORES}/three`))).toEqual([200, ""]);
    expect(await outcome(asRoot("GET", `${STORES}/three`))).toEqual([404, "not_found"]);
    expect(await outcome(asRoot("POST", STORES, { id: "three" }))).toEqual([409, "id_retired"]);
  });

  test("cannot be read from the moment they are destroyed", async () => {
    const path = randomRecordPath();
    const headers = { "content-type": RECORD_MEDIA_TYPE, "if-none-match": "*" };
    const write = () => world.call("PUT", path, { token: ROOT_TOKEN, headers, body: sealedRecord() });
    expect((await write()).status).toBe(201);
    await asRoot("DELETE", `${STORES}/one`);
    expect(await outcome(asRoot("GET", path))).toEqual([404, "not_found"]);
    expect(await outcome(write())).toEqual([404, "not_found"]);
  });
});

describe("tokens", () => {
  test("are shown once, listed without their text, and deleted", async () => {
    const answer = await asRoot("POST", TOKENS, { name: "backend", grants: READ });
    const minted = (await answer.json()) as MintedToken;
    const info = { id: minted.id, name: "backend", grants: READ, createdAt: START, expiresAt: null, lastUsedAt: null };
    expect([answer.status, minted]).toEqual([201, { ...info, token: minted.token }]);
    expect(minted.token.slice(4, 16)).toBe(minted.id);
    expect(await (await asRoot("GET", TOKENS)).json()).toEqual({ tokens: [info] });
    expect(await (await world.call("GET", "/v1/token", { token: minted.token })).json()).toEqual({
      type: "token",
      id: minted.id,
      project: "default",
      grants: READ,
      expiresAt: null,
    });
    expect(await outcome(asRoot("DELETE", `/v1/projects/other/tokens/${minted.id}`))).toEqual([404, "not_found"]);
    expect(await outcome(asRoot("DELETE", `${TOKENS}/${minted.id}`))).toEqual([204, ""]);
    expect(await outcome(world.call("GET", "/v1/token", { token: minted.token }))).toEqual([401, "unauthorized"]);
  });

  test("root is root", async () => {
    expect(await (await asRoot("GET", "/v1/token")).json()).toEqual({
      type: "root",
      id: "root",
      project: null,
      grants: [],
      expiresAt: null,
    });
  });

  test("do not outlive their minter, nor its deletion", async () => {
    const minter = await world.mint("default", MANAGE, START + 1_000);
    const mint = (expiresAt?: number) =>
      world.call("POST", TOKENS, {
        token: minter,
        json: { name: "child", grants: READ, ...(expiresAt && { expiresAt }) },
      });
    const child = (await (await mint()).json()) as MintedToken;
    expect(child.expiresAt).toBe(START + 1_000);
    expect(((await (await mint(START + 1)).json()) as MintedToken).expiresAt).toBe(START + 1);
    expect(await outcome(mint(START + 1_001))).toEqual([403, "permission_denied"]);
    expect(await outcome(mint(START))).toEqual([400, "invalid_request"]);
    await asRoot("DELETE", `${TOKENS}/${minter.slice(4, 16)}`);
    for (const token of [minter, child.token]) {
      expect(await outcome(world.call("GET", "/v1/token", { token }))).toEqual([401, "unauthorized"]);
    }
  });

  test("are refused with grants that are none", async () => {
    for (const grants of [
      [],
      [{ stores: [], permissions: ["read"] }],
      [{ stores: ["*"], permissions: [] }],
      [{ stores: ["one"], permissions: ["manage"] }],
      [{ stores: ["*", "one"], permissions: ["manage"] }],
      [{ stores: ["o*"], permissions: ["manage", "read"] }],
      [{ stores: ["*one"], permissions: ["read"] }],
      [{ stores: ["o*e"], permissions: ["read"] }],
      [{ stores: ["**"], permissions: ["read"] }],
      [{ stores: ["ONE"], permissions: ["read"] }],
      [{ stores: ["*"], permissions: ["root"] }],
      [{ stores: ["*"], permissions: ["read"], project: "other" }],
    ]) {
      const answer = asRoot("POST", TOKENS, { name: "x", grants });
      expect(await outcome(answer), JSON.stringify(grants)).toEqual([400, "invalid_request"]);
    }
  });

  test("have a name that every database can keep", async () => {
    for (const name of ["", "x".repeat(101), "a\0b", "\ud800", "x\udc00"]) {
      const answer = asRoot("POST", TOKENS, { name, grants: READ });
      expect(await outcome(answer), JSON.stringify(name)).toEqual([400, "invalid_request"]);
    }
    expect((await asRoot("POST", TOKENS, { name: "\u{1f600}".repeat(50), grants: READ })).status).toBe(201);
  });
});

describe("JSON bodies", () => {
  const post = (body: string | Uint8Array, type = "application/json", path = STORES) =>
    world.call("POST", path, { token: ROOT_TOKEN, body, headers: { "content-type": type } });

  test("are strict", async () => {
    for (const body of [
      "",
      "{",
      "null",
      "[]",
      '"x"',
      "{}",
      '{"id":"three","size":1}',
      '{"id":"three","maxVersions":"3"}',
      '{"id":"three","maxVersions":0}',
      '{"id":"three","maxVersions":1001}',
      '{"id":"three","maxVersions":1.5}',
      '{"id":"three","maxVersions":1e999}',
      '{"id":"three","maxVersions":NaN}',
      '{"id":"three","secrets":"two"}',
      '{"id":"Three"}',
      '{"id":"three\\n"}',
      '{"id":""}',
      `{"id":"${"a".repeat(64)}"}`,
      '{"id":"three","__proto__":{"maxVersions":3}}',
      '{"id":"three","constructor":{}}',
      '{"__proto__":{"id":"three"}}',
    ]) {
      expect(await outcome(post(body)), body).toEqual([400, "invalid_request"]);
    }
    expect(await outcome(post(new Uint8Array([0x22, 0xff, 0x22])))).toEqual([400, "invalid_request"]);
    expect(Object.prototype).not.toHaveProperty("maxVersions");
    expect(await outcome(post(`{"id":"${"a".repeat(63)}"}`))).toEqual([201, ""]);
  });

  test("may be nested as deep as they like, to no effect", async () => {
    const deep = '{"id":'.repeat(5_000) + "1" + "}".repeat(5_000);
    expect(await outcome(post(deep))).toEqual([400, "invalid_request"]);
    expect(await outcome(post("[".repeat(65_000)))).toEqual([400, "invalid_request"]);
  });

  test("end at 64 KiB", async () => {
    const padded = (length: number) => '{"id":"three"}'.padEnd(length, " ");
    expect(await outcome(post(padded(65_537)))).toEqual([413, "body_too_large"]);
    expect(await outcome(post(padded(65_536)))).toEqual([201, ""]);
  });

  test("are announced as JSON in UTF-8", async () => {
    for (const type of ["text/plain", "application/json; charset=latin1", "application/jsonx", "multipart/form-data"]) {
      expect(await outcome(post('{"id":"three"}', type)), type).toEqual([415, "unsupported_media_type"]);
    }
    expect(await outcome(post('{"id":"three"}', 'Application/JSON; charset="UTF-8"'))).toEqual([201, ""]);
  });

  test("are never echoed, field names included", async () => {
    const canary = "canary-7f3a";
    for (const body of [
      `{"id":"${canary}!","secrets":"${canary}"}`,
      `{"id":"three","${canary}":1}`,
      `{"name":"${canary}","grants":[{"stores":["${canary}!"],"permissions":["${canary}"]}]}`,
      `{"name":"x","grants":[{"${canary}":1}]}`,
      canary,
    ]) {
      for (const path of [STORES, TOKENS]) {
        const answer = await post(body, "application/json", path);
        expect(answer.status).toBe(400);
        expect(await answer.text()).not.toContain(canary);
      }
    }
  });

  test("are refused with a message that names the field", async () => {
    const answer = await post(
      '{"name":"x","grants":[{"stores":[3],"permissions":["read"]}]}',
      "application/json",
      TOKENS,
    );
    expect(await answer.text()).toContain("grants.0.stores.0");
  });
});
