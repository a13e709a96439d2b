/** What callers of the SDK see of a server that limits them; spec/http.md § Rate limits, § Overload. */

import { once } from "node:events";
import { connect } from "node:net";

import { OverloadedError, RateLimitedError, TacendaError } from "@tacenda/sdk";
import { expect, onTestFinished, test } from "vitest";

import { openWorld } from "../world.ts";

test("a rate limit slows a client down, and no call fails that can wait", async () => {
  await using world = await openWorld({ rateLimit: { perSecond: 5, burst: 5 } });
  const store = world.store({ stretch: "store", maxAttempts: 10 });
  const keys = Array.from({ length: 8 }, (_, index) => `key-${index}`);
  const started = performance.now();
  for (const key of keys) await store.setValue(key, `value of ${key}`);
  expect(performance.now() - started).toBeGreaterThan(600);
  const absent = keys.map((key) => `no ${key}`);
  const values = await store.getValues([...keys, ...absent]);
  expect([...values]).toEqual([...keys.map((key) => [key, `value of ${key}`]), ...absent.map((key) => [key, null])]);
  // A batch is taken if one request would be, and the next waits for all of its operations.
  const asked = performance.now();
  expect(await store.getValue("key-0")).toBe("value of key-0");
  expect(performance.now() - asked).toBeGreaterThan(2_000);
});

test("a call that cannot wait so long fails with an error that says how long", async () => {
  await using world = await openWorld({ rateLimit: { perSecond: 0.02, burst: 5 } });
  const store = world.store({ stretch: "store" });
  const errors: unknown[] = [];
  for (let count = 0; count < 6; count++) await store.getValue("key").catch((error: unknown) => errors.push(error));
  const [error] = errors;
  expect(error).toBeInstanceOf(RateLimitedError);
  expect(TacendaError.is(error, "rate_limited") && error.retryAfter).toBeGreaterThan(30_000);
  expect(error).toMatchObject({ retryable: true, requestId: expect.any(String) as string });
  // Administrators with the root token are not limited.
  for (let count = 0; count < 20; count++) await world.admin.stores.get("other");
});

test("a client beyond the limit of connections is told that the server is too busy, and gets in when there is room", async () => {
  await using world = await openWorld({ maxConnections: 10 });
  const { port } = new URL(world.url);
  const others = Array.from({ length: 15 }, () => connect(Number(port), "127.0.0.1").on("error", () => undefined));
  onTestFinished(() => others.forEach((socket) => socket.destroy()));
  await Promise.all(others.map((socket) => once(socket, "connect")));
  // Those that the world has open are among the ten; a fresh connection is not.
  const fetch: typeof globalThis.fetch = (input, init) => {
    const request = new Request(input, init);
    request.headers.set("connection", "close");
    return globalThis.fetch(request);
  };
  const store = world.store({ stretch: "store", maxAttempts: 1, fetch });
  const refused: unknown[] = [];
  await Promise.all(
    Array.from({ length: 8 }, () => store.getValue("key").catch((error: unknown) => refused.push(error))),
  );
  expect(refused.length).toBeGreaterThan(0);
  for (const error of refused) {
    expect(error).toBeInstanceOf(OverloadedError);
    expect(error).toMatchObject({ retryAfter: 1_000 });
  }
  for (const socket of others) socket.destroy();
  await world.store({ stretch: "store" }).setValue("key", "value");
  expect(await world.store({ stretch: "store" }).getValue("key")).toBe("value");
});
