/** Unwrapping, caching and failing of store keys; spec/envelope.md § Store keys, § Wrapping. */

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { describe, expect, test, vi } from "vitest";

import { Destructions } from "../../src/envelope/destructions.js";
import { DamagedRecordError } from "../../src/envelope/errors.js";
import { KeyProviderError } from "../../src/envelope/key-provider.js";
import { StorageError } from "../../src/storage/record-store.js";
import { openWorld, refTo, writeOf, type World } from "./world.js";

const keyHash = randomBytes(32);

/** What the store's index key makes of a key hash: tells one store's keys from another's. */
async function fingerprint({ keys }: World, store = "user-tokens", project = "default") {
  const opened = await keys.open(project, store);
  return opened?.recordId(keyHash).toString("hex");
}

const unavailable = () => new KeyProviderError("unavailable", "The key provider does not answer.");

describe("new keys", () => {
  test("are two, random, wrapped, and what the store opens with", async () => {
    const world = await openWorld();
    const made = await world.keys.createKeys("default", "other", 1);
    expect(made.map(({ purpose, version, state }) => ({ purpose, version, state }))).toEqual([
      { purpose: "index", version: 1, state: "active" },
      { purpose: "data", version: 1, state: "active" },
    ]);
    const context = { project: "default", store: "other", version: 1 } as const;
    const unwrapped = await Promise.all(
      made.map((wrap) => world.keyring.unwrap(wrap, { ...context, purpose: wrap.purpose })),
    );
    for (const wrap of made) expect(wrap).toMatchObject({ provider: world.keyring.id, masterVersion: 1 });
    expect(unwrapped[0]).not.toEqual(unwrapped[1]);
    expect(unwrapped).not.toContainEqual(new Uint8Array(32));
    await world.addStore("default", "second");
    expect(await fingerprint(world, "second")).not.toBe(await fingerprint(world));
  });

  test("are not made while the provider is down", async () => {
    const world = await openWorld();
    vi.spyOn(world.keyring, "wrap").mockRejectedValue(unavailable());
    await expect(world.keys.createKeys("default", "other", 1)).rejects.toMatchObject({ fault: "unavailable" });
  });
});

describe("the cache", () => {
  test("asks once for all who ask, at once or later", async () => {
    const world = await openWorld();
    const look = vi.spyOn(world.database.keys, "wrappedKeys");
    const unwrap = vi.spyOn(world.keyring, "unwrap");
    const opened = await Promise.all(Array.from({ length: 50 }, () => world.keys.open("default", "user-tokens")));
    opened.push(await world.keys.open("default", "user-tokens"));
    expect(new Set(opened).size).toBe(1);
    expect(look).toHaveBeenCalledTimes(1);
    expect(unwrap).toHaveBeenCalledTimes(2);
  });

  test("does not remember that there was no store", async () => {
    const world = await openWorld();
    expect(await world.keys.open("default", "later")).toBeNull();
    await world.addStore("default", "later");
    expect(await world.keys.open("default", "later")).not.toBeNull();
  });

  test("loads again when its time is up, and goes on with the same salt under the same key", async () => {
    let now = 1_000;
    const world = await openWorld({ ttl: 5_000, now: () => now });
    const unwrap = vi.spyOn(world.keyring, "unwrap");
    const first = await world.keys.open("default", "user-tokens");
    now += 5_000;
    expect(await world.keys.open("default", "user-tokens")).toBe(first);
    now += 1;
    const second = await world.keys.open("default", "user-tokens");
    expect(second).not.toBe(first);
    expect(unwrap).toHaveBeenCalledTimes(4);
    expect(second?.current).toBe(first?.current);
    expect(second?.current.subkeyForSealing()).toBe(first?.current.subkeyForSealing());

    now += 5_001;
    await world.rotateDataKey(2);
    const third = await world.keys.open("default", "user-tokens");
    expect(third?.current.version).toBe(2);
    expect(third?.dataKey(1)).toBe(first?.current);
  });

  test("does not take another key for the one it had under that version", async () => {
    let now = 1_000;
    const world = await openWorld({ ttl: 5_000, now: () => now });
    const first = await world.keys.open("default", "user-tokens");
    const context = { project: "default", store: "user-tokens", purpose: "data", version: 1 } as const;
    const { wrapped } = await world.keyring.wrap(randomBytes(32), context);
    world.raw.prepare("update store_keys set wrapped = ? where purpose = 'data'").run(wrapped);
    now += 5_001;
    const second = await world.keys.open("default", "user-tokens");
    const body = second?.seal(keyHash, 1, keyHash) ?? expect.unreachable();
    expect(second?.open(keyHash, 1, body)).toEqual(keyHash);
    expect(first?.open(keyHash, 1, body)).toBeNull();
  });

  test("holds as many stores as it may", async () => {
    const world = await openWorld({ maxStores: 2 });
    for (const store of ["b", "c"]) await world.addStore("default", store);
    const look = vi.spyOn(world.database.keys, "wrappedKeys");
    for (const store of ["user-tokens", "b", "user-tokens", "c", "user-tokens"]) await fingerprint(world, store);
    expect(look.mock.calls.map(([, store]) => store)).toEqual(["user-tokens", "b", "c"]);
    await fingerprint(world, "b");
    expect(look).toHaveBeenCalledTimes(4);
  });

  test("keeps stores of one name in two projects apart", async () => {
    const world = await openWorld();
    await world.addStore("acme", "user-tokens");
    expect(await fingerprint(world)).not.toBe(await fingerprint(world, "user-tokens", "acme"));
  });

  test("forgets what it is told to", async () => {
    const world = await openWorld();
    const first = await world.keys.open("default", "user-tokens");
    world.keys.forget("default", "user-tokens");
    expect(await world.keys.open("default", "user-tokens")).not.toBe(first);
  });

  test("loads again what turned out to be stale, unless it has newer keys already", async () => {
    const world = await openWorld();
    const first = (await world.keys.open("default", "user-tokens")) ?? expect.unreachable();
    await world.rotateDataKey(2);
    const reloads = Array.from({ length: 10 }, () => world.keys.reload("default", "user-tokens", first));
    const [second, ...others] = await Promise.all(reloads);
    expect(second?.current.version).toBe(2);
    expect(others.every((other) => other === second)).toBe(true);
    expect(await world.keys.reload("default", "user-tokens", first)).toBe(second);
    expect(await world.keys.open("default", "user-tokens")).toBe(second);
  });
});

describe("a store that another server has destroyed", () => {
  const openBoth = async (options: { grace?: number } = {}) => {
    const clock = { now: 10_000 };
    const now = () => clock.now;
    const world = await openWorld();
    await world.addStore("default", "other");
    const ask = vi.fn(() => world.directory.destructions());
    const { keys } = world.serve({ destructions: new Destructions(ask, now), now, ...options });
    const open = (store: string) => keys.open("default", store, "read");
    for (const store of ["user-tokens", "other"]) expect(await open(store)).not.toBeNull();
    return { ...world, clock, ask, open };
  };

  test("is gone three seconds later at the latest, and sooner where there are reads", async () => {
    const { directory, clock, open } = await openBoth();
    await directory.destroyStore("default", "user-tokens", 9);
    clock.now += 999;
    expect(await open("user-tokens")).not.toBeNull();
    clock.now += 1;
    // This one asks, and does not wait.
    expect(await open("user-tokens")).not.toBeNull();
    await expect.poll(() => open("user-tokens")).toBeNull();

    await directory.destroyProject("default", 9);
    clock.now += 3_000;
    expect(await open("other")).toBeNull();
  });

  test("costs other stores one look, and no call to the provider", async () => {
    const { directory, database, keyring, clock, ask, open } = await openBoth();
    const [look, unwrap] = [vi.spyOn(database.keys, "wrappedKeys"), vi.spyOn(keyring, "unwrap")];
    await directory.destroyStore("default", "user-tokens", 9);
    clock.now += 3_000;
    const calls = ask.mock.calls.length;
    const opened = await Promise.all(Array.from({ length: 20 }, () => open("other")));
    expect(new Set(opened).size).toBe(1);
    expect(opened).not.toContain(null);
    expect(await open("other")).toBe(opened[0]);
    expect([ask.mock.calls.length - calls, look.mock.calls.length, unwrap.mock.calls.length]).toEqual([1, 1, 0]);
  });

  test("is gone as soon when its keys' time is up and the provider does not answer", async () => {
    const { directory, keyring, clock, open } = await openBoth();
    vi.spyOn(keyring, "unwrap").mockImplementation(() => new Promise(() => {}));
    clock.now += 301_000;
    expect(await open("user-tokens")).not.toBeNull();
    await directory.destroyStore("default", "user-tokens", 9);
    clock.now += 3_000;
    expect(await open("user-tokens")).toBeNull();
    expect(await open("other")).not.toBeNull();
  });

  test("is gone as soon when a question that was asked before comes back late, or never", async () => {
    const { directory, clock, ask, open } = await openBoth();
    const before = await directory.destructions();
    const late = Promise.withResolvers<string | null>();
    ask.mockImplementationOnce(() => late.promise);
    clock.now += 1_000;
    expect(await open("user-tokens")).not.toBeNull();
    await directory.destroyStore("default", "user-tokens", 9);
    clock.now += 3_000;
    expect(await open("user-tokens")).toBeNull();
    late.resolve(before);
    await sleep(10);
    expect(await open("user-tokens")).toBeNull();
    expect(await open("other")).not.toBeNull();
  });

  test("is not taken for alive while the database does not say", async () => {
    const { clock, ask, open } = await openBoth();
    ask.mockRejectedValue(new StorageError("It failed."));
    clock.now += 2_000;
    expect(await open("other")).not.toBeNull();
    clock.now += 1_000;
    await expect(open("other")).rejects.toBeInstanceOf(StorageError);
    ask.mockRestore();
    await expect.poll(() => open("other").catch(() => null)).not.toBeNull();
  });
});

test("new bodies are sealed under the highest data key that accepts writes", async () => {
  const world = await openWorld();
  for (const version of [2, 3, 4]) await world.rotateDataKey(version);
  const states = world.raw.prepare("update store_keys set state = ? where purpose = 'data' and version = ?");
  states.run("retired", 4);
  for (const version of [1, 2, 3]) states.run("active", version);
  const opened = await world.keys.open("default", "user-tokens");
  expect(opened?.current.version).toBe(3);
  expect([1, 2, 3, 4, 5].map((version) => opened?.dataKey(version)?.version)).toEqual([1, 2, 3, 4, undefined]);
});

describe("failures", () => {
  test("of the provider close the store, are told again for a moment without asking, and pass", async () => {
    let now = 1_000;
    const world = await openWorld({ ttl: 5_000, grace: 0, now: () => now });
    const unwrap = vi.spyOn(world.keyring, "unwrap").mockRejectedValue(unavailable());
    const open = () => world.keys.open("default", "user-tokens", "read");
    await expect(open()).rejects.toMatchObject({ fault: "unavailable" });
    const calls = unwrap.mock.calls.length;
    await expect(open()).rejects.toMatchObject({ fault: "unavailable" });
    expect(unwrap).toHaveBeenCalledTimes(calls);
    unwrap.mockRestore();
    now += 1_000;
    await open();

    const again = vi.spyOn(world.keyring, "unwrap").mockRejectedValue(unavailable());
    now += 5_000;
    await open();
    now += 1;
    await expect(open()).rejects.toMatchObject({ fault: "unavailable" });
    again.mockRestore();
    now += 1_000;
    expect(await open()).not.toBeNull();
  });

  describe("of the provider after the keys' time is up", () => {
    const failures = [
      ["unavailable", () => Promise.reject(unavailable())],
      ["refused", () => Promise.reject(new KeyProviderError("refused", "The key is disabled."))],
      ["silent", () => new Promise<never>(() => {})],
    ] as const;

    test.each(failures)("let reads go on for the time of grace, and no write: %s", async (kind, fail) => {
      let now = 1_000;
      const world = await openWorld({ ttl: 5_000, grace: 10_000, now: () => now });
      const first = await world.keys.open("default", "user-tokens");
      const unwrap = vi.spyOn(world.keyring, "unwrap").mockImplementation(fail);
      now += 5_001;
      const started = performance.now();
      expect(await world.keys.open("default", "user-tokens", "read")).toBe(first);
      now += 9_000;
      expect(await world.keys.open("default", "user-tokens", "read")).toBe(first);
      expect(performance.now() - started).toBeLessThan(2_000);
      if (kind === "silent") return;
      await expect(world.keys.open("default", "user-tokens", "write")).rejects.toMatchObject({ fault: kind });
      now += 1_000;
      await expect(world.keys.open("default", "user-tokens", "read")).rejects.toMatchObject({ fault: kind });
      unwrap.mockRestore();
      now += 1_000;
      expect(await world.keys.open("default", "user-tokens", "write")).not.toBe(first);
    });

    test("do not hide that the store was destroyed", async () => {
      let now = 1_000;
      const world = await openWorld({ ttl: 5_000, grace: 10_000, now: () => now });
      await world.keys.open("default", "user-tokens");
      vi.spyOn(world.keyring, "unwrap").mockRejectedValue(unavailable());
      await world.directory.destroyStore("default", "user-tokens", 9);
      now += 5_001;
      expect(await world.keys.open("default", "user-tokens", "read")).toBeNull();
    });
  });

  test("of the directory pass as well", async () => {
    const world = await openWorld();
    vi.spyOn(world.database.keys, "wrappedKeys").mockRejectedValueOnce(new StorageError("The database is away."));
    await expect(world.keys.open("default", "user-tokens")).rejects.toThrow(StorageError);
    expect(await world.keys.open("default", "user-tokens")).not.toBeNull();
  });

  test("name the provider that is needed", async () => {
    const world = await openWorld();
    world.raw.prepare("update store_keys set provider = 'local:0123456789abcdef'").run();
    await expect(world.keys.open("default", "user-tokens")).rejects.toMatchObject({
      name: "KeyProviderError",
      fault: "refused",
      message: expect.stringContaining("local:0123456789abcdef") as unknown,
    });
  });

  test("meet a provider that gives back other than 32 bytes", async () => {
    const world = await openWorld();
    vi.spyOn(world.keyring, "unwrap").mockImplementation(() => Promise.resolve(new Uint8Array(31)));
    await expect(world.keys.open("default", "user-tokens")).rejects.toMatchObject({ fault: "refused" });
  });

  test("of the wrap of a retired data key affect what is under it, and nothing else of the store", async () => {
    const world = await openWorld();
    const [before, after] = [refTo(randomBytes(32)), refTo(randomBytes(32))];
    const record = randomBytes(300);
    await world.records.commit([writeOf(before, 1, record)]);
    await world.rotateDataKey(2);
    await world.records.commit([writeOf(after, 1, record)]);
    world.raw.prepare("update store_keys set wrapped = zeroblob(65) where purpose = 'data' and version = 1").run();
    const { records } = world.serve();
    const look = vi.spyOn(world.database.keys, "wrappedKeys");
    expect((await records.read([after]))[0]?.kept?.body).toEqual(record);
    await records.commit([writeOf(after, 2, record)]);
    for (let repeat = 0; repeat < 3; repeat++) {
      await expect(records.read([before])).rejects.toBeInstanceOf(DamagedRecordError);
    }
    // No reader makes the server ask the provider again and again.
    expect(look).toHaveBeenCalledTimes(1);
  });

  test.each(["purpose = 'index'", "purpose = 'data'"])("meet a store that lacks its keys of %s", async (which) => {
    const world = await openWorld();
    world.raw.prepare(`delete from store_keys where ${which}`).run();
    await expect(world.keys.open("default", "user-tokens")).rejects.toThrow(StorageError);
  });

  test("meet a store whose data keys are all retired", async () => {
    const world = await openWorld();
    world.raw.prepare("update store_keys set state = 'retired' where purpose = 'data'").run();
    await expect(world.keys.open("default", "user-tokens")).rejects.toThrow(StorageError);
  });
});

describe("forgetting a project", () => {
  test("drops the keys of its stores, run out or not, and of no other", async () => {
    let now = 1_000;
    const world = await openWorld({ ttl: 5_000, now: () => now });
    const open = () =>
      Promise.all(
        [
          ["acme", "old"],
          ["acme", "new"],
          ["acme-2", "old"],
          ["default", "user-tokens"],
        ].map(async ([project = "", store = ""]) => (await world.keys.open(project, store))?.current),
      );
    await world.addStore("acme", "old");
    await world.addStore("acme", "new");
    await world.addStore("acme-2", "old");
    const before = await open();
    now += 5_001;
    await world.keys.open("acme", "new");
    world.keys.forgetProject("acme");
    // A data key that was kept, even past its time, is used again.
    const after = await open();
    expect(after.map((key, index) => key === before[index])).toEqual([false, false, true, true]);
  });
});

describe("wraps that were moved in the database do not open", () => {
  const swap = (world: World, one: string, other: string) => {
    const rows = [one, other].map((where) =>
      world.raw.prepare<[], { wrapped: Buffer }>(`select wrapped from store_keys where ${where}`).get(),
    );
    world.raw.prepare(`update store_keys set wrapped = ? where ${one}`).run(rows[1]?.wrapped);
    world.raw.prepare(`update store_keys set wrapped = ? where ${other}`).run(rows[0]?.wrapped);
  };
  const key = (project: string, store: string, purpose: string, version = 1) =>
    `project = '${project}' and store = '${store}' and purpose = '${purpose}' and version = ${version}`;

  test.each([
    ["between projects", key("acme", "user-tokens", "data")],
    ["between stores", key("default", "other", "data")],
    ["between purposes", key("default", "user-tokens", "index")],
    ["between versions", key("default", "user-tokens", "data", 1)],
  ])("%s", async (_, other) => {
    const world = await openWorld();
    await world.addStore("acme", "user-tokens");
    await world.addStore("default", "other");
    await world.rotateDataKey(2);
    await world.keys.open("default", "user-tokens");
    world.keys.forget("default", "user-tokens");
    swap(world, key("default", "user-tokens", "data", 2), other);
    await expect(world.keys.open("default", "user-tokens")).rejects.toMatchObject({ fault: "refused" });
  });
});
