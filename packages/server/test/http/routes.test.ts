/** The route table, pinned: a route that appears, disappears or changes what it needs must change this file. */

import { expect, test } from "vitest";

import { describeApi } from "../../src/http/openapi.js";
import { ROUTES } from "../../src/http/routes.js";
import { openWorld } from "../world.js";

const STORE = "/v1/projects/:project/stores/:store";
const RECORD = `${STORE}/records/:hash`;

test("the routes are these", () => {
  expect(
    ROUTES.map(({ method, path, permission, body, cap, query }) => [
      `${method} ${path}`,
      permission,
      body,
      cap,
      query.join(),
    ]),
  ).toEqual([
    ["GET /livez", "public", "none", 0, ""],
    ["GET /readyz", "public", "none", 0, ""],
    ["GET /v1/openapi.json", "public", "none", 0, ""],
    ["GET /v1/token", "any", "none", 0, ""],
    ["GET /v1/admin/keys", "root", "none", 0, ""],
    ["POST /v1/admin/keys/rotate", "root", "json", 65_536, ""],
    ["POST /v1/admin/keys/migrate", "root", "json", 65_536, ""],
    ["POST /v1/admin/keys/retire", "root", "json", 65_536, ""],
    ["POST /v1/admin/keys/reinstate", "root", "json", 65_536, ""],
    ["POST /v1/admin/keys/destroy", "root", "json", 65_536, ""],
    ["POST /v1/projects", "root", "json", 65_536, ""],
    ["GET /v1/projects", "root", "none", 0, ""],
    ["PATCH /v1/projects/:project", "root", "json", 65_536, ""],
    ["DELETE /v1/projects/:project", "root", "none", 0, ""],
    ["POST /v1/projects/:project/stores", "manage", "json", 65_536, ""],
    ["GET /v1/projects/:project/stores", "manage", "none", 0, ""],
    [`GET ${STORE}`, "manage", "none", 0, ""],
    [`PATCH ${STORE}`, "manage", "json", 65_536, ""],
    [`DELETE ${STORE}`, "manage", "none", 0, ""],
    [`GET ${STORE}/keys`, "root", "none", 0, ""],
    [`POST ${STORE}/keys/rotate`, "root", "json", 65_536, ""],
    [`POST ${STORE}/keys/reencrypt`, "root", "json", 65_536, ""],
    ["POST /v1/projects/:project/tokens", "manage", "json", 65_536, ""],
    ["GET /v1/projects/:project/tokens", "manage", "none", 0, ""],
    ["DELETE /v1/projects/:project/tokens/:token", "manage", "none", 0, ""],
    [`GET ${RECORD}`, "read", "none", 0, "version"],
    [`PUT ${RECORD}`, "write", "bytes", 1_081_435, "purge"],
    [`PATCH ${RECORD}`, "write", "json", 65_536, ""],
    [`GET ${RECORD}/versions`, "read", "none", 0, ""],
    [`POST ${STORE}/batch`, "read or write", "json", 8_388_608, ""],
    [`PUT ${STORE}/secret-check`, "read or write", "bytes", 64, ""],
    [`DELETE ${STORE}/secret-check`, "manage", "optional bytes", 32, ""],
  ]);
});

test("every route about records names one key hash", () => {
  const aboutRecords = ROUTES.filter(({ path }) => path.includes("records"));
  expect(aboutRecords.length).toBeGreaterThan(0);
  for (const { path } of aboutRecords) expect([RECORD, `${RECORD}/versions`]).toContain(path);
});

test("the OpenAPI document is served without a token and describes every route", async () => {
  const world = await openWorld();
  const answer = await world.call("GET", "/v1/openapi.json");
  expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "application/json"]);
  const document = (await answer.json()) as {
    openapi: string;
    paths: Record<string, Record<string, { responses: Record<string, unknown>; parameters: { name: string }[] }>>;
  };
  expect(document).toEqual(JSON.parse(JSON.stringify(describeApi(ROUTES))));
  expect(document.openapi).toBe("3.1.0");
  const described = Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.keys(operations).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(described.sort()).toEqual(
    ROUTES.map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, "{$1}")}`).sort(),
  );
  for (const [path, operations] of Object.entries(document.paths)) {
    for (const operation of Object.values(operations)) {
      expect(operation.responses).toHaveProperty("default");
      const inPath = Array.from(path.matchAll(/\{(\w+)\}/g), ([, name]) => name);
      expect(operation.parameters.map(({ name }) => name)).toEqual(expect.arrayContaining(inPath));
    }
  }
});

test("the OpenAPI document describes the operations of a batch", () => {
  const document = JSON.stringify(describeApi(ROUTES.filter(({ path }) => path.endsWith("/batch"))));
  for (const field of ['"reads":{"', '"writes":{"', '"key":{"', '"expect":{"', '"record":{"', '"purge":{"']) {
    expect(document).toContain(field);
  }
});
