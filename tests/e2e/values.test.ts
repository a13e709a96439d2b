/** setValue and getValue through both layers, as a backend uses them. */

import {
  AlreadyExistsError,
  ConflictError,
  NotTextError,
  PermissionDeniedError,
  ServerUnreachableError,
  StoreNotFoundError,
  type StoreOptions,
  Tacenda,
  TacendaError,
  TokenRefusedError,
  generateSecret,
} from "@tacenda/sdk";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { type World, openWorld } from "../world.js";

let world: World;
beforeAll(async () => void (world = await openWorld()));
afterAll(() => world[Symbol.asyncDispose]());

describe("values", () => {
  test("a value comes back, to this client and to a fresh one", async () => {
    const store = world.store();
    expect(await store.getValue("github:42")).toBeNull();
    expect(await store.setValue("github:42", "ghp_example")).toEqual({ version: 1 });
    expect(await store.getValue("github:42")).toBe("ghp_example");
    expect(await world.store().getValue("github:42")).toBe("ghp_example");
  });

  test.each([
    ["empty text", ""],
    ["text with a byte order mark, NULs and emoji", "\ufeff\0a\0🔑"],
    ["1 MiB of text", "x".repeat(1_048_576)],
  ])("%s", async (name, value) => {
    await world.store().setValue(name, value);
    expect(await world.store().getValue(name)).toBe(value);
  });

  test("bytes come back as bytes, and asked for as text they are an error", async () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => index);
    await world.store().setValue("bytes", bytes);
    expect(await world.store().getBytes("bytes")).toEqual(bytes);
    await expect(world.store().getValue("bytes")).rejects.toThrow(NotTextError);
  });

  test("text asked for as bytes is its UTF-8", async () => {
    await world.store().setValue("text", "é");
    expect(await world.store().getBytes("text")).toEqual(Uint8Array.of(0xc3, 0xa9));
    expect(await world.store().getBytes("none")).toBeNull();
  });

  test("an entry tells all that is known, and what merely the server says apart", async () => {
    const before = Date.now();
    await world.store().setValue("entry", "v", { metadata: { scope: ["repo"], n: 1 } });
    const entry = await world.store().getEntry("entry");
    expect(entry).toMatchObject({
      state: "live",
      value: "v",
      version: 1,
      expiresAt: null,
      metadata: { scope: ["repo"], n: 1 },
    });
    if (entry?.state !== "live") return expect.fail("must be live");
    expect(entry.claimed).toMatchObject({ protected: false, active: true });
    for (const date of [entry.sealedAt, entry.claimed.createdAt]) {
      expect(date?.getTime()).toBeGreaterThanOrEqual(before);
      expect(date?.getTime()).toBeLessThanOrEqual(Date.now());
    }
  });

  test("a given secret per call wins over the store's", async () => {
    const secret = generateSecret();
    const store = () => world.client().getStore("any", { secret: world.secret });
    await store().setValue("per-call", "other", { secret });
    expect(await store().getValue("per-call")).toBeNull();
    expect(await store().getValue("per-call", { secret })).toBe("other");
  });

  test('stretch "store" and more iterations find what was written with them', async () => {
    const store = (options: StoreOptions) => world.client().getStore("any", { secret: world.secret, ...options });
    await store({ stretch: "store" }).setValue("stretched", "s");
    await store({ iterations: 150_000 }).setValue("stretched", "i");
    expect(await store({ stretch: "store" }).getValue("stretched")).toBe("s");
    expect(await store({ iterations: 150_000 }).getValue("stretched")).toBe("i");
    expect(await store({}).getValue("stretched")).toBeNull();
  });
});

describe("what differs stays apart (T3, T6)", () => {
  test("keys, stores and projects that look alike", async () => {
    await world.admin.projects.create("ab");
    await world.admin.stores.create("c", { project: "ab" });
    await world.admin.projects.create("a");
    await world.admin.stores.create("bc", { project: "a" });
    const grant = [{ stores: ["*"], permissions: ["read" as const, "write" as const] }];
    const places = [
      ["default", "user-tokens", "a", world.token],
      ["default", "user-tokens", "a\0", world.token],
      ["default", "user-tokens", "a ", world.token],
      ["default", "user-tokens", "A", world.token],
      ["default", "user-tokens", "\u00e9", world.token],
      ["default", "user-tokens", "e\u0301", world.token],
      ["default", "other", "a", world.token],
      ["ab", "c", "a", (await world.admin.tokens.create("t", grant, { project: "ab" })).token],
      ["a", "bc", "a", (await world.admin.tokens.create("t", grant, { project: "a" })).token],
    ] as const;
    const stores = places.map(([project, store, , token]) =>
      world.client({ project, token }).getStore(store, { secret: world.secret }),
    );
    for (const [index, [, , key]] of places.entries()) await stores[index]?.setValue(key, `value ${index}`);
    for (const [index, [, , key]] of places.entries()) {
      expect(await stores[index]?.getValue(key)).toBe(`value ${index}`);
      expect((await stores[index]?.getEntry(key))?.version).toBe(1);
    }
  });
});

describe("versions", () => {
  test("setValue overwrites as the next version, also for a client that has not seen the last", async () => {
    const [first, second] = [world.store(), world.store()];
    expect(await first.setValue("v", "1")).toEqual({ version: 1 });
    expect(await second.setValue("v", "2")).toEqual({ version: 2 });
    expect(await first.setValue("v", "3")).toEqual({ version: 3 });
    expect(await second.getValue("v")).toBe("3");
  });

  test("ifVersion writes only over that version", async () => {
    const store = world.store();
    expect(await store.setValue("cas", "1", { ifVersion: 0 })).toEqual({ version: 1 });
    expect(await store.setValue("cas", "2", { ifVersion: 1 })).toEqual({ version: 2 });
    for (const ifVersion of [0, 1, 3]) {
      const error = await world
        .store()
        .setValue("cas", "x", { ifVersion })
        .catch((error: unknown) => error);
      expect(error).toBeInstanceOf(ConflictError);
      expect((error as ConflictError).currentVersion).toBe(2);
    }
    const error = await world
      .store()
      .setValue("never", "x", { ifVersion: 1 })
      .catch((error: unknown) => error);
    expect(TacendaError.is(error, "conflict") && error.currentVersion).toBe(0);
    expect(await store.getValue("cas")).toBe("2");
  });

  test("createValue writes only where there is no value", async () => {
    const store = world.store();
    expect(await store.createValue("create", "1")).toEqual({ version: 1 });
    await expect(store.createValue("create", "2")).rejects.toThrow(AlreadyExistsError);
    await expect(world.store().createValue("create", "2")).rejects.toThrow(AlreadyExistsError);
    expect(await store.getValue("create")).toBe("1");
  });

  test("24 writers of one key at once: each write is a version of its own, none is lost", async () => {
    const stores = Array.from({ length: 4 }, () => world.store());
    const versions = await Promise.all(
      Array.from({ length: 24 }, async (_, index) => (await stores[index % 4]?.setValue("race", `${index}`))?.version),
    );
    expect(versions.toSorted((a = 0, b = 0) => a - b)).toEqual(Array.from({ length: 24 }, (_, index) => index + 1));
    const last = versions.indexOf(24);
    expect(await world.store().getValue("race")).toBe(`${last}`);
  });
});

describe("failures are errors of their own, never null", () => {
  test("an unknown store (S1)", async () => {
    const store = world.client().getStore("nowhere", { secret: world.secret });
    for (const call of [() => store.getValue("k"), () => store.setValue("k", "v"), () => store.verify()]) {
      await expect(call()).rejects.toThrow(StoreNotFoundError);
    }
  });

  test("a bad token", async () => {
    const store = world.client({ token: "nonsense" }).getStore("user-tokens", { secret: world.secret });
    await expect(store.getValue("k")).rejects.toThrow(TokenRefusedError);
    await expect(store.verify()).rejects.toThrow(TokenRefusedError);
  });

  test("a token that may only read, or only write", async () => {
    const mint = async (permission: "read" | "write") =>
      (await world.admin.tokens.create(permission, [{ stores: ["user-*"], permissions: [permission] }])).token;
    const reader = world.store({ token: await mint("read") });
    const writer = world.store({ token: await mint("write") });
    await reader.verify();
    await writer.verify();
    await writer.setValue("granted", "v");
    expect(await reader.getValue("granted")).toBe("v");
    await expect(reader.setValue("granted", "w")).rejects.toThrow(PermissionDeniedError);
    await expect(writer.getValue("granted")).rejects.toThrow(PermissionDeniedError);
    const elsewhere = world.client({ token: await mint("write") }).getStore("other", { secret: world.secret });
    await expect(elsewhere.verify()).rejects.toThrow(PermissionDeniedError);
  });

  test("no server", async () => {
    const store = new Tacenda({ url: "http://127.0.0.1:9", token: "t", maxAttempts: 1 }).getStore("s", {
      secret: world.secret,
    });
    await expect(store.getValue("k")).rejects.toThrow(ServerUnreachableError);
    await expect(store.setValue("k", "v")).rejects.toThrow(ServerUnreachableError);
  });

  test("an inactive or protected entry", async () => {
    const store = world.store();
    await store.setValue("inactive", "v");
    const path = await recordUrl(world, "inactive");
    const patch = (json: object) =>
      fetch(path, {
        method: "PATCH",
        headers: { authorization: `Bearer ${world.token}`, "content-type": "application/json", "if-match": '"1"' },
        body: JSON.stringify(json),
      });
    expect((await patch({ protected: true })).status).toBe(200);
    expect(await store.getEntry("inactive")).toMatchObject({ claimed: { protected: true } });
    expect((await patch({ active: false })).status).toBe(200);
    await expect(store.getValue("inactive")).rejects.toMatchObject({ code: "record_inactive" });
  });
});

test("verify passes where everything is well", async () => {
  await expect(world.store().verify()).resolves.toBeUndefined();
});

/** Where the server keeps a key, caught on the way. */
async function recordUrl(world: World, key: string): Promise<string> {
  let url = "";
  const fetch: typeof globalThis.fetch = (input, init) => {
    if ((input as Request).url.includes("/records/")) url = (input as Request).url;
    return globalThis.fetch(input, init);
  };
  await world.store({ fetch }).getValue(key);
  return url;
}
