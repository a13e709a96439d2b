import { describe, expect, test, vi } from "vitest";

import { ConfigurationError } from "../src/errors.js";
import { KeyCache, type KeySource } from "../src/key-cache.js";
import { Secret } from "../src/secret.js";

const source = (overrides: Partial<KeySource> = {}): KeySource => ({
  secret: Secret.from("tcs-test-secret-0123456789abcdefghij", { iterations: 100_000, allowWeak: false }),
  project: "default",
  storeId: "user-tokens",
  iterations: 100_000,
  stretch: "key",
  ...overrides,
});

/** Counts how many native derivations run, and how many at once. */
function watchDerivations() {
  const counts = { started: 0, running: 0, most: 0 };
  const deriveBits = crypto.subtle.deriveBits.bind(crypto.subtle);
  const spy = vi.spyOn(crypto.subtle, "deriveBits").mockImplementation(async (...args) => {
    counts.started++;
    counts.most = Math.max(counts.most, ++counts.running);
    try {
      return await deriveBits(...args);
    } finally {
      counts.running--;
    }
  });
  return { counts, [Symbol.dispose]: () => spy.mockRestore() };
}

describe("one derivation", () => {
  test("for overlapping and for later calls of one key", async () => {
    using watched = watchDerivations();
    const cache = new KeyCache(100, 3);
    const [first, second] = await Promise.all([cache.recordKeys(source(), "k"), cache.recordKeys(source(), "k")]);
    expect(second).toBe(first);
    expect(cache.recordKeys(source(), "k")).toBe(first);
    expect(watched.counts.started).toBe(1);
  });

  test("and as many as there are sources and keys that differ", async () => {
    using watched = watchDerivations();
    const cache = new KeyCache(100, 3);
    const other = Secret.from("another-secret-0123456789abcdefghijk", { iterations: 100_000, allowWeak: false });
    const hashes = await Promise.all(
      [
        cache.recordKeys(source(), "k"),
        cache.recordKeys(source(), "k/"),
        cache.recordKeys(source({ project: "acme" }), "k"),
        cache.recordKeys(source({ storeId: "user-tokens-2" }), "k"),
        cache.recordKeys(source({ iterations: 100_001 }), "k"),
        cache.recordKeys(source({ secret: other }), "k"),
        cache.recordKeys(source({ stretch: "store" }), "k"),
      ].map(async (keys) => Buffer.from((await keys).keyHash).toString("hex")),
    );
    expect(new Set(hashes).size).toBe(7);
    expect(watched.counts.started).toBe(7);
  });

  test('for a whole store with stretch "store"', async () => {
    using watched = watchDerivations();
    const cache = new KeyCache(100, 3);
    await Promise.all(["a", "b", "c"].map(async (key) => await cache.recordKeys(source({ stretch: "store" }), key)));
    await cache.recordKeys(source({ stretch: "store" }), "d");
    expect(watched.counts.started).toBe(1);
  });

  test("at most three at once", async () => {
    using watched = watchDerivations();
    const cache = new KeyCache(100, 3);
    await Promise.all(Array.from({ length: 12 }, async (_, index) => await cache.recordKeys(source(), `k${index}`)));
    expect(watched.counts).toMatchObject({ started: 12, most: 3 });
  });

  test("again after the cache is full, cleared, or of size 0", async () => {
    using watched = watchDerivations();
    const small = new KeyCache(1, 3);
    for (const key of ["a", "b", "a"]) await small.recordKeys(source(), key);
    expect(watched.counts.started).toBe(3);
    small.clear();
    await small.recordKeys(source(), "a");
    expect(watched.counts.started).toBe(4);
    const none = new KeyCache(0, 3);
    await none.recordKeys(source(), "a");
    await none.recordKeys(source(), "a");
    expect(watched.counts.started).toBe(6);
  });

  test("what is under way when the cache is cleared reaches its caller and is not kept", async () => {
    using watched = watchDerivations();
    const cache = new KeyCache(100, 3);
    const underWay = cache.recordKeys(source(), "k");
    cache.clear();
    await underWay;
    await cache.recordKeys(source(), "k");
    expect(watched.counts.started).toBe(2);
  });

  test("a runtime that refuses the iterations is a clear error, and the next call tries again", async () => {
    const refuse = vi
      .spyOn(crypto.subtle, "deriveBits")
      .mockRejectedValueOnce(new DOMException("no", "NotSupportedError"));
    const cache = new KeyCache(100, 3);
    await expect(cache.recordKeys(source(), "k")).rejects.toThrow(ConfigurationError);
    refuse.mockRestore();
    await expect(cache.recordKeys(source(), "k")).resolves.toBeDefined();
  });
});
