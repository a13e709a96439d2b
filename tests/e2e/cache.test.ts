/** The value cache: fewer requests, and no answer that a client without it would not give. */

import { ConfigurationError, ServerUnreachableError } from "@tacenda/sdk";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { type World, meddlingFetch, openWorld } from "../world.js";

let world: World;
beforeAll(async () => void (world = await openWorld()));
afterAll(() => world[Symbol.asyncDispose]());

/** A store with a cache, the requests it sends, and a switch that cuts it off. */
function cachedStore(cache: { ttl: string | number; staleIfError?: string | number; maxBytes?: number }) {
  const line = { cut: false, cause: undefined as Error | undefined, requests: [] as string[], answers: [] as number[] };
  const fetch = meddlingFetch(async (request, pass) => {
    if (line.cut) throw new TypeError("fetch failed", { cause: line.cause });
    line.requests.push(`${request.method} ${request.headers.get("if-none-match") ?? ""}`.trim());
    const response = await pass(request);
    line.answers.push(response.status);
    return response;
  });
  const client = world.client({ fetch, maxAttempts: 1 });
  return { client, line, store: client.getStore("user-tokens", { secret: world.secret, cache: cache as never }) };
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

describe("while it is fresh", () => {
  test("a value is read once; entries and bytes come from it as well", async () => {
    const { store, line } = cachedStore({ ttl: "1m" });
    await world.store().setValue("a", "v", { metadata: { m: 1 } });
    for (let index = 0; index < 5; index++) expect(await store.getValue("a")).toBe("v");
    expect(await store.getEntry("a")).toMatchObject({ value: "v", metadata: { m: 1 }, version: 1 });
    expect(await store.getBytes("a")).toEqual(new TextEncoder().encode("v"));
    expect(line.requests).toEqual(["GET"]);
  });

  test("what callers do to bytes they got does not reach others", async () => {
    const { store } = cachedStore({ ttl: "1m" });
    await store.setValue("bytes", Uint8Array.of(1, 2, 3));
    (await store.getBytes("bytes"))?.fill(9);
    expect(await store.getBytes("bytes")).toEqual(Uint8Array.of(1, 2, 3));
  });

  test("nor what they do to metadata and claims", async () => {
    const { store } = cachedStore({ ttl: "1m" });
    await store.setValue("metadata", "v", { metadata: { role: "reader" } });
    const entry = await store.getEntry("metadata");
    if (entry?.state !== "live") return expect.fail("must be live");
    entry.metadata.role = "admin";
    entry.claimed.protected = true;
    expect(await store.getEntry("metadata")).toMatchObject({
      metadata: { role: "reader" },
      claimed: { protected: false },
    });
  });

  test("a write whose outcome is unknown empties its place, and conditions are judged by the server", async () => {
    const { store, line } = cachedStore({ ttl: "1m" });
    await store.setValue("doubt", "1");
    expect(await store.getValue("doubt")).toBe("1");
    line.cut = true;
    await expect(store.setValue("doubt", "2")).rejects.toThrow(ServerUnreachableError);
    line.cut = false;
    await world.store().deleteValue("doubt");
    expect(await store.getValue("doubt")).toBeNull();
    await store.setValue("judged", "1");
    await store.getValue("judged");
    await world.store().setValue("judged", "2");
    expect(await store.deleteValue("judged", { ifVersion: 2 })).toEqual({ version: 3 });
  });

  test("a read that is under way when the cache is emptied does not fill it again", async () => {
    const gate = Promise.withResolvers<undefined>();
    let requests = 0;
    const fetch = meddlingFetch(async (request, pass) => {
      const response = await pass(request);
      if (request.method === "GET" && ++requests === 1) await gate.promise;
      return response;
    });
    await world.store().setValue("late", "v");
    const client = world.client({ fetch });
    const store = client.getStore("user-tokens", { secret: world.secret, cache: { ttl: "1m" } });
    const reading = store.getValue("late");
    await pause(300);
    client.close();
    gate.resolve(undefined);
    expect(await reading).toBe("v");
    expect(await store.getValue("late")).toBe("v");
    expect(requests).toBe(2);
  });

  test("absence is not kept", async () => {
    const { store } = cachedStore({ ttl: "1m" });
    expect(await store.getValue("later")).toBeNull();
    await world.store().setValue("later", "v");
    expect(await store.getValue("later")).toBe("v");
  });

  test("writes, deletions and attributes of this client show at once, also through another of its stores", async () => {
    const { client, store } = cachedStore({ ttl: "1m" });
    const other = client.getStore("user-tokens", { secret: world.secret, cache: { ttl: "1m" } });
    await store.setValue("b", "1");
    expect([await store.getValue("b"), await other.getValue("b")]).toEqual(["1", "1"]);
    await store.setValue("b", "2");
    expect([await store.getValue("b"), await other.getValue("b")]).toEqual(["2", "2"]);
    await store.setProtected("b", true);
    expect(await store.getEntry("b")).toMatchObject({ claimed: { protected: true } });
    await store.setValue("c", "1");
    await store.getValue("c");
    await store.deleteValue("c");
    expect(await store.getValue("c")).toBeNull();
    expect(await other.getValue("c")).toBeNull();
  });

  test("expiry is checked again", async () => {
    const { store, line } = cachedStore({ ttl: "1m" });
    await store.setValue("e", "v", { expiresIn: 1_500 });
    expect(await store.getValue("e")).toBe("v");
    await pause(1_550);
    expect(await store.getValue("e")).toBeNull();
    expect(line.requests).toEqual(["PUT *", "GET"]);
  });

  test("it is bounded, and emptied by close()", async () => {
    const { client, store, line } = cachedStore({ ttl: "1m", maxBytes: 2_000 });
    for (const key of ["x", "y", "z", "big"])
      await world.store().setValue(key, key === "big" ? "v".repeat(3_000) : "v");
    for (const key of ["x", "y", "z", "x", "y", "z"]) await store.getValue(key);
    expect(line.requests).toHaveLength(3);
    for (const key of ["big", "big"]) await store.getValue(key);
    expect(line.requests).toHaveLength(5);
    client.close();
    await store.getValue("x");
    expect(line.requests).toHaveLength(6);
  });
});

describe("when it is stale", () => {
  test("the server is asked whether it is still current, and does not send it again", async () => {
    const { store, line } = cachedStore({ ttl: 50 });
    await world.store().setValue("f", "1");
    expect(await store.getValue("f")).toBe("1");
    await pause(60);
    expect(await store.getValue("f")).toBe("1");
    await world.store().setValue("f", "2");
    await pause(60);
    expect(await store.getValue("f")).toBe("2");
    expect(line.requests).toEqual(["GET", 'GET "1"', 'GET "1"']);
    expect(line.answers).toEqual([200, 304, 200]);
  });

  test("without a server it is still returned, for as long as was asked for, and no longer", async () => {
    const { store, line } = cachedStore({ ttl: 50, staleIfError: 2_000 });
    const strict = cachedStore({ ttl: 50 });
    await world.store().setValue("g", "v");
    expect([await store.getValue("g"), await strict.store.getValue("g")]).toEqual(["v", "v"]);
    line.cut = strict.line.cut = true;
    await pause(60);
    expect(await store.getValue("g")).toBe("v");
    line.cause = Object.assign(new Error(), { code: "CERT_HAS_EXPIRED" });
    expect(await store.getValue("g")).toBe("v");
    await expect(strict.store.getValue("g")).rejects.toThrow(ServerUnreachableError);
    await pause(2_100);
    await expect(store.getValue("g")).rejects.toThrow(ServerUnreachableError);
  });

  test("only for lack of an answer: a refusal is an error", async () => {
    let refuse = false;
    const fetch = meddlingFetch(async (request, pass) =>
      refuse
        ? Response.json(
            { error: { code: "unauthorized", message: "", requestId: crypto.randomUUID() } },
            { status: 401 },
          )
        : await pass(request),
    );
    const store = world
      .client({ fetch })
      .getStore("user-tokens", { secret: world.secret, cache: { ttl: 1, staleIfError: "1h" } });
    await store.setValue("r", "v");
    await store.getValue("r");
    refuse = true;
    await pause(5);
    await expect(store.getValue("r")).rejects.toMatchObject({ code: "token_refused" });
  });
});

test("a lying 'not modified' cannot bring an old value back (T8)", async () => {
  const lie = { on: false };
  const fetch = meddlingFetch(async (request, pass) =>
    lie.on && request.method === "GET"
      ? new Response(null, { status: 304, headers: { etag: '"1"' } })
      : await pass(request),
  );
  const lied = world.client({ fetch });
  const store = lied.getStore("user-tokens", { secret: world.secret, cache: { ttl: 1 } });
  await store.setValue("t", "1");
  expect(await store.getValue("t")).toBe("1");
  await store.setValue("t", "2");
  lie.on = true;
  await pause(5);
  await expect(store.getValue("t")).rejects.toMatchObject({ code: "protocol" });
});

test.each([{ ttl: 0 }, { ttl: "never" }, {}, { ttl: 1, maxBytes: -1 }, { ttl: 1, staleIfError: "x" }])(
  "%j is refused",
  (cache) => {
    expect(() => world.client().getStore("user-tokens", { secret: world.secret, cache: cache as never })).toThrow(
      ConfigurationError,
    );
  },
);
