/** A wrong secret is an error of its own (N6), and a store's secret can be changed although its keys are hashed (N7). */

import {
  AlreadyExistsError,
  ConflictError,
  PermissionDeniedError,
  type Store,
  type StoreOptions,
  SecretRotatedError,
  WrongSecretError,
  generateSecret,
} from "@tacenda/sdk";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";

import { type World, meddlingFetch, openWorld } from "../world.js";

let world: World;
beforeAll(async () => void (world = await openWorld()));
afterAll(() => world[Symbol.asyncDispose]());

let storeId = "";
/** Each test has its own, for mismatches are rate-limited per token. */
let token = "";
let count = 0;
beforeEach(async () => {
  storeId = `secrets-${++count}`;
  await world.admin.stores.create(storeId);
  ({ token } = await world.admin.tokens.create("t", [{ stores: ["*"], permissions: ["read", "write", "delete"] }]));
});

const [first, second, third] = [generateSecret(), generateSecret(), generateSecret()];
const storeWith = (
  secret: StoreOptions["secret"],
  more: StoreOptions & { fetch?: typeof fetch; token?: string } = {},
): Store => world.client({ fetch: more.fetch, token: more.token ?? token }).getStore(storeId, { ...more, secret });

describe("a wrong secret", () => {
  test("is told from an absent key, by reads, writes and verify", async () => {
    await storeWith(first).setValue("k", "v");
    for (const wrong of [
      () => storeWith(second).getValue("k"),
      () => storeWith(second).getValue("other"),
      () => storeWith(second).setValue("k", "w"),
      () => storeWith(second).createValue("k", "w"),
      () => storeWith(second).deleteValue("k"),
      () => storeWith(second).getValues(["k"]),
      () => storeWith(second).setValues({ k: "w" }),
      () => storeWith(second).listVersions("k"),
      () => storeWith(second).verify(),
    ]) {
      await expect(wrong()).rejects.toThrow(WrongSecretError);
    }
    expect(await storeWith(first).getValue("k")).toBe("v");
  });

  test("may also be other iterations, or another stretch", async () => {
    await storeWith(first).setValue("k", "v");
    for (const wrong of [
      () => storeWith(first, { stretch: "store" }).getValue("k"),
      () => storeWith(first, { iterations: 150_000 }).getValue("k"),
    ]) {
      await expect(wrong()).rejects.toThrow(WrongSecretError);
    }
    expect(await storeWith(first).getValue("k")).toBe("v");
  });

  test("may not be wrong where each client may have its own", async () => {
    await world.admin.stores.update(storeId, { secrets: "any" });
    await storeWith(first).setValue("k", "1");
    await storeWith(second).setValue("k", "2");
    expect([await storeWith(first).getValue("k"), await storeWith(second).getValue("k")]).toEqual(["1", "2"]);
  });

  test("is asked about once per process, and not at all once a record has opened", async () => {
    await storeWith(first).setValue("k", "v");
    let checks = 0;
    const fetch: typeof globalThis.fetch = async (input, init) => {
      if ((input as Request).url.endsWith("/secret-check")) checks++;
      return await globalThis.fetch(input, init);
    };
    const store = storeWith(first, { fetch });
    expect(await store.getValue("k")).toBe("v");
    for (const key of ["a", "b", "c"]) expect(await store.getValue(key)).toBeNull();
    await store.setValue("a", "v");
    await store.verify();
    expect(checks).toBeLessThanOrEqual(1);
    const other = storeWith(first, { fetch });
    for (const key of ["x", "y", "z"]) expect(await other.getValue(key)).toBeNull();
    await other.setValue("x", "v");
    expect(checks).toBeLessThanOrEqual(2);
    expect(checks).toBeGreaterThanOrEqual(1);
  });

  test("of a reader, before anybody wrote, is no error: there is nothing yet", async () => {
    const reader = await world.admin.tokens.create("r", [{ stores: ["*"], permissions: ["read"] }]);
    expect(await storeWith(first, { token: reader.token }).getValue("k")).toBeNull();
    await storeWith(second).setValue("k", "v");
    await expect(storeWith(first, { token: reader.token }).getValue("k")).rejects.toThrow(WrongSecretError);
  });

  test("cannot be searched for: mismatches are limited, and then all checks of that token", async () => {
    await storeWith(first).setValue("k", "v");
    const codes = new Set<unknown>();
    for (let guess = 0; guess < 14; guess++) {
      const error = await storeWith(generateSecret(), {})
        .getValue("k")
        .catch((error: unknown) => error);
      codes.add((error as { code?: unknown }).code);
    }
    expect([...codes]).toEqual(["wrong_secret", "rate_limited"]);
    expect(await storeWith(first).getValue("k")).toBe("v");
  });

  test("does not pass for absence when the check cannot be made", async () => {
    const fetch: typeof globalThis.fetch = async (input, init) => {
      if ((input as Request).url.endsWith("/secret-check")) throw new TypeError("fetch failed");
      return await globalThis.fetch(input, init);
    };
    const client = world.client({ fetch, maxAttempts: 1, token }).getStore(storeId, { secret: first });
    await expect(client.getValue("k")).rejects.toMatchObject({ code: "server_unreachable" });
    await expect(client.setValue("k", "v")).rejects.toMatchObject({ code: "server_unreachable" });
    await storeWith(first).setValue("k", "v");
    // What opens proves the secret without it.
    expect(await client.getValue("k")).toBe("v");
  });
});

describe("changing the secret", () => {
  const changing = () => storeWith({ current: second, previous: [first] });

  test("values are found under the old secret, moved when read, and closed to the old secret", async () => {
    await storeWith(first).setValue("k", "v", { metadata: { m: 1 }, expiresIn: "30d" });
    const before = await storeWith(first).getEntry("k");
    const moved = await changing().getEntry("k");
    expect(moved).toMatchObject({ value: "v", metadata: { m: 1 }, version: 1, expiresAt: before?.expiresAt });
    expect(await storeWith(second).getValue("k")).toBe("v");
    for (const call of [
      () => storeWith(first).getValue("k"),
      () => storeWith(first).setValue("k", "unseen"),
      () => storeWith(first).createValue("k", "unseen"),
      () => storeWith(first).deleteValue("k"),
    ]) {
      await expect(call()).rejects.toThrow(SecretRotatedError);
    }
    expect(await changing().getValue("k")).toBe("v");
  });

  test("a client that has only the new secret is let in once one that has both was there", async () => {
    await storeWith(first).setValue("k", "v");
    await expect(storeWith(second).verify()).rejects.toThrow(WrongSecretError);
    await changing().verify();
    await storeWith(second).verify();
    await storeWith(first).verify();
    await expect(storeWith(third).verify()).rejects.toThrow(WrongSecretError);
  });

  test("a reader that has both may read before a writer has registered the new one", async () => {
    await storeWith(first).setValue("k", "v");
    const reader = await world.admin.tokens.create("r", [{ stores: ["*"], permissions: ["read"] }]);
    const store = storeWith({ current: second, previous: [first] }, { token: reader.token });
    expect(await store.getValue("none")).toBeNull();
    // It may not move the value, so it reads it where it is.
    expect(await store.getValue("k")).toBe("v");
    expect(await storeWith(first).getValue("k")).toBe("v");
    const writer = await world.admin.tokens.create("w", [{ stores: ["*"], permissions: ["read", "write"] }]);
    const without = storeWith({ current: second, previous: [first] }, { token: writer.token });
    expect(await without.getValue("k")).toBe("v");
    await expect(without.setValue("k", "w")).rejects.toThrow(PermissionDeniedError);
    await expect(without.migrateSecret(["k"])).rejects.toThrow(PermissionDeniedError);
    expect(await changing().getValue("k")).toBe("v");
  });

  test("an administrator ends it by forgetting the old check", async () => {
    await storeWith(first).setValue("k", "v");
    await changing().migrateSecret(["k"]);
    await world.admin.stores.forgetSecretChecks(storeId);
    expect(await storeWith(second).setValue("k", "w")).toEqual({ version: 2 });
    await expect(storeWith(first).verify()).rejects.toThrow(WrongSecretError);
  });

  test("the first write of a key under the new secret, even of a new key, shuts the old one out", async () => {
    await storeWith(first).setValue("k", "old");
    expect(await changing().setValue("k", "new")).toEqual({ version: 1 });
    await expect(storeWith(first).getValue("k")).rejects.toThrow(SecretRotatedError);
    expect(await changing().setValue("fresh", "new")).toEqual({ version: 1 });
    await expect(storeWith(first).setValue("fresh", "unseen")).rejects.toThrow(SecretRotatedError);
    expect(await changing().getValues(["k", "fresh", "none"])).toEqual(
      new Map<string, string | null>([
        ["k", "new"],
        ["fresh", "new"],
        ["none", null],
      ]),
    );
  });

  test("many values at once shut it out as well", async () => {
    await storeWith(first).setValues({ a: "1", b: "2" });
    await changing().setValues({ a: "3", c: "4" });
    for (const key of ["a", "c"]) await expect(storeWith(first).getValue(key)).rejects.toThrow(SecretRotatedError);
    expect([...(await changing().getValues(["a", "b", "c"])).values()]).toEqual(["3", "2", "4"]);
    await expect(storeWith(first).getValue("b")).rejects.toThrow(SecretRotatedError);
  });

  test("creating respects what is under the old secret", async () => {
    await storeWith(first).setValue("k", "v");
    await expect(changing().createValue("k", "w")).rejects.toThrow(AlreadyExistsError);
    await storeWith(first).setValue("l", "v");
    await expect(changing().setValue("l", "w", { ifVersion: 0 })).rejects.toThrow(ConflictError);
    await storeWith(first).setValue("gone", "v");
    await storeWith(first).deleteValue("gone");
    expect(await changing().getEntry("gone")).toMatchObject({ state: "deleted" });
    expect(await changing().createValue("gone", "again")).toEqual({ version: 1 });
    await expect(storeWith(first).createValue("gone", "unseen")).rejects.toThrow(SecretRotatedError);
  });

  test("deleting, destroying, listing and protecting reach what is under the old secret", async () => {
    const store = storeWith(first);
    for (const key of ["deleted", "destroyed", "listed", "protected"]) {
      await store.setValue(key, "1");
      await store.setValue(key, "2");
    }
    await changing().deleteValue("deleted");
    await changing().destroyValue("destroyed");
    for (const key of ["deleted", "destroyed"]) expect(await changing().getValue(key)).toBeNull();
    expect((await changing().listVersions("listed")).map(({ version }) => version)).toEqual([2, 1]);
    expect(await changing().getValue("listed", { version: 1 })).toBe("1");
    expect(await changing().restoreVersion("listed", 1)).toEqual({ version: 1 });
    expect(await changing().getValue("listed")).toBe("1");
    expect(await changing().setProtected("protected", true)).toBe(true);
  });

  test("in bulk, resumably, after which the old secret is of no more use", async () => {
    const store = storeWith(first);
    const keys = ["a", "b", "c", "d"];
    for (const key of keys) await store.setValue(key, `value of ${key}`);
    await store.deleteValue("d");
    await changing().getValue("a");
    const seen: number[] = [];
    const progress = await changing().migrateSecret([...keys, "none"], { onProgress: ({ done }) => seen.push(done) });
    expect(progress).toEqual({ done: 5, moved: 3, already: 1, absent: 1 });
    expect(seen).toEqual([1, 2, 3, 4, 5]);
    expect(await changing().migrateSecret(keys)).toEqual({ done: 4, moved: 0, already: 4, absent: 0 });
    for (const key of keys)
      await expect(storeWith(first).createValue(key, "unseen")).rejects.toThrow(SecretRotatedError);
    for (const key of ["a", "b", "c"]) expect(await storeWith(second).getValue(key)).toBe(`value of ${key}`);
    expect(await storeWith(second).getValue("d")).toBeNull();
  });

  test("an old-secret client does not get over the mark by trying again, nor with versions it has seen", async () => {
    const old = storeWith(first);
    await old.setValue("k", "v");
    await changing().getValue("k");
    for (let attempt = 0; attempt < 3; attempt++) {
      await expect(old.setValue("k", "unseen")).rejects.toThrow(SecretRotatedError);
      await expect(old.setValues({ k: "unseen" })).rejects.toThrow(SecretRotatedError);
      await expect(old.setValue("k", "unseen", { ifVersion: 2 })).rejects.toThrow(SecretRotatedError);
    }
    expect(await changing().getValue("k")).toBe("v");
  });

  test.each(["migrate", "create", "ifVersion"])(
    "what an old-secret writer writes in between is not lost: %s",
    async (how) => {
      const old = storeWith(first);
      await old.setValue("k", "1");
      await old.deleteValue("k");
      let raced = false;
      const fetch = meddlingFetch(async (request, pass) => {
        if (request.url.endsWith("/batch") && !raced) {
          raced = true;
          await old.setValue("k", "precious");
        }
        return await pass(request);
      });
      const store = storeWith({ current: second, previous: [first] }, { fetch });
      if (how === "migrate") expect(await store.migrateSecret(["k"])).toMatchObject({ moved: 1 });
      else if (how === "create") await expect(store.createValue("k", "mine")).rejects.toThrow(AlreadyExistsError);
      else await expect(store.setValue("k", "mine", { ifVersion: 0 })).rejects.toThrow(ConflictError);
      expect(raced).toBe(how !== "ifVersion");
      expect(await changing().getValue("k")).toBe(how === "ifVersion" ? null : "precious");
    },
  );

  test("a mark without what it was moved to is an error, not null", async () => {
    await storeWith(first).setValue("k", "v");
    const probe: string[] = [];
    const watch = meddlingFetch(async (request, pass) => {
      if (request.method === "GET") probe.push(request.url);
      return await pass(request);
    });
    await storeWith({ current: second, previous: [first] }, { fetch: watch }).getValue("k");
    const [current] = probe;
    const hiding = meddlingFetch(async (request, pass) =>
      request.url === current
        ? Response.json(
            { error: { code: "record_not_found", message: "", requestId: crypto.randomUUID() } },
            { status: 404 },
          )
        : await pass(request),
    );
    const fresh = storeWith({ current: second, previous: [first] }, { fetch: hiding });
    await expect(fresh.getValue("k")).rejects.toThrow(SecretRotatedError);
  });

  test("is ended by the holder of both, and a straggler that still names the old one is let in", async () => {
    await storeWith(first).setValue("k", "v");
    await changing().migrateSecret(["k"]);
    const manager = await world.admin.tokens.create("m", [{ stores: ["*"], permissions: ["manage"] }]);
    await storeWith({ current: second, previous: [first] }, { token: manager.token }).forgetPreviousSecrets();
    await expect(storeWith(first).verify()).rejects.toThrow(WrongSecretError);
    for (let start = 0; start < 12; start++) await changing().verify();
    await storeWith(second).verify();
  });

  test("a move that loses to an old-secret writer starts over and carries the newer value", async () => {
    await storeWith(first).setValue("k", "older");
    let raced = false;
    const fetch = meddlingFetch(async (request, pass) => {
      if (request.url.endsWith("/batch") && !raced) {
        raced = true;
        await storeWith(first).setValue("k", "newer");
      }
      return await pass(request);
    });
    expect(await storeWith({ current: second, previous: [first] }, { fetch }).getValue("k")).toBe("newer");
    expect(raced).toBe(true);
    expect(await storeWith(second).getValue("k")).toBe("newer");
  });

  test("two movers at once: one moves, both read the value", async () => {
    await storeWith(first).setValue("k", "v");
    const values = await Promise.all(Array.from({ length: 6 }, () => changing().getValue("k")));
    expect(values).toEqual(Array<string>(6).fill("v"));
    expect((await storeWith(second).getEntry("k"))?.version).toBe(1);
  });

  test("whatever answer of it is lost, the value is under one of the secrets, and the next call finds it", async () => {
    for (let lost = 1; lost <= 6; lost++) {
      const key = `crash-${lost}`;
      await storeWith(first).setValue(key, "v");
      // The process ends after the server has carried out its nth request.
      const fetch = meddlingFetch(async (request, pass, nth) => {
        if (nth > lost) throw new TypeError("the process is gone");
        const response = await pass(request);
        if (nth === lost) throw new TypeError("the process is gone");
        return response;
      });
      const dying = world
        .client({ fetch, maxAttempts: 1 })
        .getStore(storeId, { secret: { current: second, previous: [first] } });
      await dying.migrateSecret([key]).catch(() => undefined);
      expect(await changing().getValue(key)).toBe("v");
      expect(await storeWith(second).getValue(key)).toBe("v");
    }
  });

  test("a move shuts out the holders of every previous secret, not only of the one it moves from", async () => {
    await world.admin.stores.update(storeId, { secrets: "any" });
    await storeWith(first).setValue("k", "v");
    expect(await storeWith({ current: third, previous: [first, second] }).getValue("k")).toBe("v");
    for (const old of [first, second]) {
      await expect(storeWith(old).setValue("k", "unseen")).rejects.toThrow(SecretRotatedError);
    }
  });

  test("two clients that write the same hundred values at once both succeed", async () => {
    const fast = { stretch: "store" } as const;
    await storeWith(first, fast).setValue("k", "v");
    const values = Array.from({ length: 100 }, (_, index) => [`key ${index}`, "v"] as const);
    const secret = { current: second, previous: [first] };
    let raced = false;
    const fetch = meddlingFetch(async (request, pass) => {
      if (request.url.endsWith("/batch") && !raced) {
        raced = true;
        await storeWith(secret, fast).setValues(values);
      }
      return await pass(request);
    });
    // The refusal names two hundred versions: a value and a mark for each key.
    const versions = await storeWith(secret, { ...fast, fetch }).setValues(values);
    expect(new Set([...versions.values()].map(({ version }) => version))).toEqual(new Set([2]));
  });

  test("twice in a row, with both old secrets given", async () => {
    await storeWith(first).setValue("k", "v");
    await storeWith(first).setValue("l", "w");
    await storeWith({ current: second, previous: [first] }).getValue("k");
    const store = world.client({ token }).getStore(storeId, { secret: { current: third, previous: [second, first] } });
    await world.admin.stores.update(storeId, { secrets: "any" });
    expect(await store.getValue("k")).toBe("v");
    expect(await store.getValue("l")).toBe("w");
    await expect(storeWith(second).getValue("k")).rejects.toThrow(SecretRotatedError);
  });
});

test("a call's timeout ends its wait for the check, though other calls may wait longer", async () => {
  const fetch: typeof globalThis.fetch = async (input, init) =>
    (input as Request).url.endsWith("/secret-check")
      ? await new Promise(() => undefined)
      : await globalThis.fetch(input, init);
  const store = world.client({ fetch, token, timeout: 60_000 }).getStore(storeId, { secret: first });
  for (const call of [() => store.setValue("k", "v", { timeout: 200 }), () => store.getValue("k", { timeout: 200 })]) {
    await expect(call()).rejects.toMatchObject({ code: "request_timeout", mayHaveHappened: false });
  }
});
