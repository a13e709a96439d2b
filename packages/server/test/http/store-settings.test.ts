import { setTimeout as sleep } from "node:timers/promises";

import type { Store } from "@tacenda/protocol";
import { describe, expect, test, vi } from "vitest";

import { StoreSettingsCache } from "../../src/http/store-settings.js";

const STORE: Store = { id: "s", secrets: "one", maxVersions: 10, createdAt: 1 };

function cacheOver(...answers: (Store | null | Error)[]) {
  const getStore = vi.fn(() => {
    const answer = answers.shift();
    if (answer === undefined) throw new Error("asked too often");
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  });
  return { cache: new StoreSettingsCache({ getStore }), getStore };
}

describe("the settings of a store", () => {
  test("are asked for once a second, however many ask", async () => {
    const later = { ...STORE, maxVersions: 3 };
    const { cache, getStore } = cacheOver(STORE, later);
    expect(await Promise.all([cache.get("p", "s"), cache.get("p", "s")])).toEqual([STORE, STORE]);
    expect(getStore).toHaveBeenCalledTimes(1);
    await sleep(1_100);
    expect(await cache.get("p", "s")).toEqual(later);
  });

  test("are those of one project", async () => {
    const { cache } = cacheOver(STORE, null);
    expect(await cache.get("p", "s")).toEqual(STORE);
    expect(await cache.get("other", "s")).toBeNull();
  });

  test("are asked for again after a change, and what was asked for before it is not put back", async () => {
    let answer: (store: Store) => void = () => undefined;
    const getStore = vi.fn<() => Promise<Store>>();
    getStore.mockReturnValueOnce(new Promise((resolve) => (answer = resolve)));
    const changed = { ...STORE, maxVersions: 3 };
    getStore.mockResolvedValueOnce(changed);
    const cache = new StoreSettingsCache({ getStore });
    const before = cache.get("p", "s");
    cache.forget("p", "s");
    answer(STORE);
    expect(await before).toEqual(STORE);
    expect(await cache.get("p", "s")).toEqual(changed);
    expect(await cache.get("p", "s")).toEqual(changed);
    expect(getStore).toHaveBeenCalledTimes(2);
  });

  test("that are of no store yet, and failures, are not remembered", async () => {
    const { cache } = cacheOver(null, new Error("away"), STORE, null);
    expect(await cache.get("p", "s")).toBeNull();
    await expect(cache.get("p", "s")).rejects.toThrow("away");
    expect(await cache.get("p", "s")).toEqual(STORE);
    cache.forgetAll();
    expect(await cache.get("p", "s")).toBeNull();
  });
});
