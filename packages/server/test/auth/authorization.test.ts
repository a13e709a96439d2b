/** Every route with every kind of token; spec/http.md § Authorization. */

import { RECORD_MEDIA_TYPE, checksumText } from "@tacenda/protocol";
import { hash } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";

import { ROUTES, type Route } from "../../src/http/routes.js";
import { newToken } from "../../src/auth/tokens.js";
import { ROOT_TOKEN, START, errorCode, openWorld, sealedRecord, type World } from "../world.js";

const GUARDED = ROUTES.filter(({ permission }) => permission !== "public");
const HASH = "A".repeat(43);

let world: World;

beforeEach(async () => {
  world = await openWorld();
});

function send(route: Route, token: string | undefined, project = "default", store = "one"): Promise<Response> {
  const path = route.path
    .replace(":project", project)
    .replace(":store", store)
    .replace(":token", "0".repeat(12))
    .replace(":hash", HASH);
  const headers: Record<string, string> = route.path.endsWith(":hash") ? { "if-match": '"1"' } : {};
  if (route.body === "bytes") headers["content-type"] = RECORD_MEDIA_TYPE;
  return world.call(route.method, path, {
    token,
    headers,
    ...(route.body === "json" && { json: { id: "new" } }),
    ...(route.body === "bytes" && { body: route.cap > 64 ? sealedRecord() : new Uint8Array(32) }),
  });
}

/** The whole answer, but for what may differ: the request id and the Date. */
async function fingerprint(answer: Response): Promise<string> {
  const headers = [...answer.headers].filter(([name]) => name !== "date" && name !== "tacenda-request-id");
  const id = answer.headers.get("tacenda-request-id") ?? "";
  expect(id).toMatch(/^[0-9a-f-]{36}$/);
  return JSON.stringify([answer.status, headers, (await answer.text()).replace(id, "ID")]);
}

async function fingerprints(answers: Promise<Response>[]): Promise<Set<string>> {
  return new Set(await Promise.all(answers.map(async (answer) => fingerprint(await answer))));
}

test("no token, a bad one and an expired one are answered alike on every route", async () => {
  const expired = await world.mint("default", [{ stores: ["*"], permissions: ["manage"] }], START + 1);
  world.clock.now = START + 1;
  const unknown = newToken().text;
  const typo = unknown.slice(0, -1) + (unknown.endsWith("a") ? "b" : "a");
  const wrongSecret = expired.slice(0, 16) + unknown.slice(16);
  const body = wrongSecret.slice(0, -6);
  const forged = body + checksumText(hash("sha256", body, "buffer"));
  const tokens = [undefined, "x", "tct_", ROOT_TOKEN.slice(1), `${ROOT_TOKEN}x`, expired, unknown, typo, forged];
  const all = await fingerprints(GUARDED.flatMap((route) => tokens.map((token) => send(route, token))));
  expect(all.size).toBe(1);
  expect([...all][0]).toMatch(/^\[401,.*www-authenticate.*Bearer.*unauthorized/);
});

test("other authorization schemes and several tokens are refused", async () => {
  for (const authorization of [
    ROOT_TOKEN,
    `Basic ${ROOT_TOKEN}`,
    `Bearer ${ROOT_TOKEN}, Bearer ${ROOT_TOKEN}`,
    "Bearer",
  ]) {
    expect((await world.call("GET", "/v1/token", { headers: { authorization } })).status, authorization).toBe(401);
  }
  expect((await world.call("GET", "/v1/token", { headers: { authorization: `bearer ${ROOT_TOKEN}` } })).status).toBe(
    200,
  );
});

test("another's project, a project that does not exist, and what is no route are answered alike", async () => {
  const manager = await world.mint("default", [{ stores: ["*"], permissions: ["manage"] }]);
  const inProject = GUARDED.filter(({ path }) => path.includes(":project"));
  expect(inProject.length).toBe(20);
  const all = await fingerprints([
    ...inProject.flatMap((route) => [
      send(route, manager, "other"),
      send(route, manager, "other", "nothing"),
      send(route, manager, "nothing"),
      send(route, manager, "NO-ID!"),
    ]),
    world.call("GET", "/v1/nothing", { token: manager }),
    world.call("GET", "/", {}),
    world.call("PUT", "/v1/projects", { token: manager }),
  ]);
  expect(all.size).toBe(1);
  expect([...all][0]).toMatch(/^\[404,.*not_found/);
});

test("root gets not_found for what does not exist, in the same bytes", async () => {
  const inStore = ROUTES.filter(({ path }) => path.includes(":store/records"));
  const all = await fingerprints([
    ...inStore
      .filter(({ method }) => method !== "PATCH")
      .flatMap((route) => [send(route, ROOT_TOKEN, "nothing"), send(route, ROOT_TOKEN, "default", "nothing")]),
    world.call("GET", "/v1/projects/nothing/stores", { token: ROOT_TOKEN }),
    world.call("GET", "/v1/projects/nothing/tokens", { token: ROOT_TOKEN }),
    world.call("GET", "/v1/projects/default/stores/nothing", { token: ROOT_TOKEN }),
    world.call("DELETE", "/v1/projects/default/stores/nothing", { token: ROOT_TOKEN }),
    world.call("DELETE", "/v1/projects/default/tokens/nothing", { token: ROOT_TOKEN }),
    world.call("DELETE", "/v1/projects/nothing", { token: ROOT_TOKEN }),
    world.call("GET", "/v1/nothing", {}),
  ]);
  expect(all.size).toBe(1);
});

describe("within one's own project", () => {
  const PERMISSIONS = ["read", "write", "delete", "manage"] as const;

  test("a token without the permission gets 403, whether or not the store exists", async () => {
    for (const permission of PERMISSIONS) {
      const token = await world.mint("default", [{ stores: ["*"], permissions: [permission] }]);
      for (const route of GUARDED.filter(({ method }) => method !== "DELETE")) {
        const allowed =
          route.permission === "any" ||
          route.permission === permission ||
          (route.permission === "read or write" && permission !== "delete") ||
          (permission === "manage" && route.permission !== "root");
        for (const store of ["one", "nothing"]) {
          const { status } = await send(route, token, "default", store);
          expect(status === 403, `${permission} ${route.method} ${route.path} ${store}`).toBe(!allowed);
        }
      }
    }
  });

  test("grants reach the stores of their patterns only", async () => {
    const route = ROUTES.find(({ path, method }) => path.endsWith(":hash") && method === "GET");
    if (route === undefined) throw new Error("The route is gone.");
    for (const [pattern, reached] of [
      ["one", ["one"]],
      ["*", ["one", "one-more", "two", "on"]],
      ["one*", ["one", "one-more"]],
      ["on", ["on"]],
    ] as const) {
      const token = await world.mint("default", [{ stores: [pattern], permissions: ["read"] }]);
      for (const store of ["one", "one-more", "two", "on"]) {
        const { status } = await send(route, token, "default", store);
        expect(status, `${pattern} ${store}`).toBe((reached as readonly string[]).includes(store) ? 404 : 403);
      }
    }
  });

  test("permissions of one grant do not reach the stores of another", async () => {
    const token = await world.mint("default", [
      { stores: ["one"], permissions: ["read"] },
      { stores: ["two"], permissions: ["write"] },
    ]);
    const [read, write] = ["GET", "PUT"].map((method) =>
      ROUTES.find((route) => route.path.endsWith(":hash") && route.method === method),
    );
    if (read === undefined || write === undefined) throw new Error("The routes are gone.");
    expect((await send(read, token, "default", "one")).status).toBe(404);
    expect((await send(write, token, "default", "one")).status).toBe(403);
    expect((await send(read, token, "default", "two")).status).toBe(403);
    expect((await send(write, token, "default", "two")).status).toBe(412);
  });

  test("authorization is decided before the body is looked at", async () => {
    const token = await world.mint("default", [{ stores: ["one"], permissions: ["read"] }]);
    const answer = await world.call("POST", "/v1/projects/default/stores", { token, body: "{", headers: {} });
    expect([answer.status, await errorCode(answer)]).toEqual([403, "permission_denied"]);
  });
});
