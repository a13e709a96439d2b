/** Cross-origin access: off, and on for one origin; spec/http.md § CORS. */

import { expect, test } from "vitest";

import { openWorld } from "../world.js";

const ORIGIN = "https://console.example.com";

test("there is none unless it is configured", async () => {
  const world = await openWorld();
  const preflight = await world.call("OPTIONS", "/v1/projects", { headers: { origin: ORIGIN } });
  expect(preflight.status).toBe(404);
  const answer = await world.call("GET", "/livez", { headers: { origin: ORIGIN } });
  for (const [name] of [...preflight.headers, ...answer.headers]) expect(name).not.toMatch(/^access-control/);
});

test("one origin may call and read, errors included", async () => {
  const world = await openWorld({ corsOrigin: ORIGIN });
  const preflight = await world.call("OPTIONS", "/v1/anything", { headers: { origin: "https://evil.example.com" } });
  expect(preflight.status).toBe(204);
  expect(Object.fromEntries(preflight.headers)).toMatchObject({
    "access-control-allow-origin": ORIGIN,
    "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE",
    "access-control-allow-headers": "authorization, content-type, if-match, if-none-match",
    "cache-control": "no-store",
  });
  for (const [path, status] of [
    ["/livez", 200],
    ["/v1/token", 401],
    ["/nothing", 404],
  ] as const) {
    const answer = await world.call("GET", path);
    expect(answer.status).toBe(status);
    expect(answer.headers.get("access-control-allow-origin")).toBe(ORIGIN);
    expect(answer.headers.get("access-control-expose-headers")).toBe(
      "etag, retry-after, tacenda-created-at, tacenda-attributes, tacenda-request-id, tacenda-secret-check, tacenda-protocol",
    );
    expect(answer.headers.has("access-control-allow-credentials")).toBe(false);
  }
});
