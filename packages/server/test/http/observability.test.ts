/** What logs, metrics and the access hook hold, and what they never do; spec/http.md § Logs. */

import { RECORD_MEDIA_TYPE } from "@tacenda/protocol";
import { expect, test } from "vitest";

import type { AccessEvent } from "../../src/http/dispatch.js";
import { ROOT_TOKEN, openWorld, randomRecordPath, sealedRecord } from "../world.js";

const ROUTE = "/v1/projects/:project/stores/:store/records/:hash";

test("requests are logged, counted and told by route template", async () => {
  const lines: { fields: Record<string, unknown>; message: string }[] = [];
  const events: AccessEvent[] = [];
  const log = (fields: object, message: string) => void lines.push({ fields: { ...fields }, message });
  const world = await openWorld({
    metricsPort: 0,
    logger: { debug: log, info: log, warn: log, error: log },
    onAccess: (event) => void events.push(event),
  });
  const token = await world.mint("default", [{ stores: ["one"], permissions: ["read", "write"] }]);
  lines.length = events.length = 0;

  const path = randomRecordPath();
  const headers = { "content-type": RECORD_MEDIA_TYPE, "if-none-match": "*" };
  const answer = await world.call("PUT", `${path}?purge=earlier`, { token, headers, body: sealedRecord() });
  await world.call("GET", path, { token });
  await world.call("GET", randomRecordPath("two"), { token });
  await world.call("GET", randomRecordPath("one", "other"), { token });
  await world.call("GET", `/nothing/${path}`, { token });
  await world.call("GET", path, {});

  const id = token.slice(4, 16);
  expect(lines.map(({ fields: { route, method, status, principal } }) => [route, method, status, principal])).toEqual([
    [ROUTE, "PUT", 201, id],
    [ROUTE, "GET", 200, id],
    [ROUTE, "GET", 403, id],
    [ROUTE, "GET", 404, id],
    ["unmatched", "GET", 404, undefined],
    [ROUTE, "GET", 401, undefined],
  ]);
  expect(lines[0]?.fields.requestId).toBe(answer.headers.get("tacenda-request-id"));
  expect(lines[0]?.fields.milliseconds).toBeGreaterThan(0);
  expect(events.map(({ status, project, store }) => [status, project, store])).toEqual([
    [201, "default", "one"],
    [200, "default", "one"],
    [403, undefined, undefined],
    [404, undefined, undefined],
    [404, undefined, undefined],
    [401, undefined, undefined],
  ]);

  const metrics = await (await fetch(world.metricsUrl ?? "")).text();
  expect(metrics).toContain(
    `tacenda_http_request_duration_seconds_count{route="${ROUTE}",method="PUT",status="201"} 1`,
  );
  expect((await fetch(new URL("/", world.metricsUrl ?? ""))).status).toBe(404);
  const all = JSON.stringify([lines, events]) + metrics;
  for (const secret of [path.slice(-43), token, ROOT_TOKEN, "purge", "Bearer"]) expect(all).not.toContain(secret);
  expect(JSON.stringify(lines) + metrics).not.toMatch(/default|"one"|"two"|other/);
});

test("methods that nobody knows do not become labels", async () => {
  const world = await openWorld({ metricsPort: 0 });
  await world.call("PROPFIND", "/v1/projects", {});
  const metrics = await (await fetch(world.metricsUrl ?? "")).text();
  expect(metrics).toContain('{route="unmatched",method="OTHER",status="404"}');
  expect(metrics).not.toContain("PROPFIND");
});

test("metrics have no listener unless they are asked for, and no route among the others", async () => {
  const world = await openWorld();
  expect(world.metricsUrl).toBeNull();
  expect((await world.call("GET", "/metrics", { token: ROOT_TOKEN })).status).toBe(404);
});
