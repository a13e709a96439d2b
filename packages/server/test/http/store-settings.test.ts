import { setImmediate } from "node:timers/promises";

import type { Store } from "@tacenda/protocol";
import { describe, expect, test, vi } from "vitest";

import { StoreSettings } from "../../src/http/store-settings.js";

const STORE: Store = { id: "s", secrets: "one", maxVersions: 10, createdAt: 1 };
const CHANGED: Store = { ...STORE, maxVersions: 3 };

function settingsOver(...answers: (Store | null | Error)[]) {
  const getStore = vi.fn((project: string, id: string) => {
    const answer = answers.shift();
    if (answer === undefined) throw new Error(`asked too often, for ${project}/${id}`);
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  });
  return { settings: new StoreSettings({ getStore }), getStore };
}

describe("the settings of a store", () => {
  test("are asked for once by all of one turn, and by each turn anew", async () => {
    const { settings, getStore } = settingsOver(STORE, CHANGED);
    expect(await Promise.all([settings.get("p", "s"), settings.get("p", "s")])).toEqual([STORE, STORE]);
    expect(getStore.mock.calls).toEqual([["p", "s"]]);
    expect(await settings.get("p", "s")).toEqual(CHANGED);
  });

  test("are those of one store of one project", async () => {
    const { settings, getStore } = settingsOver(STORE, CHANGED, null);
    const asked = [settings.get("p", "s"), settings.get("p", "t"), settings.get("other", "s")];
    expect(await Promise.all(asked)).toEqual([STORE, CHANGED, null]);
    expect(getStore).toHaveBeenCalledTimes(3);
  });

  test("are not those of a question that was under way already", async () => {
    let answer: (store: Store) => void = () => undefined;
    const getStore = vi.fn<() => Promise<Store>>();
    getStore.mockReturnValueOnce(new Promise((resolve) => (answer = resolve))).mockResolvedValueOnce(CHANGED);
    const settings = new StoreSettings({ getStore });
    const before = settings.get("p", "s");
    await setImmediate();
    await setImmediate();
    expect(getStore).toHaveBeenCalledTimes(1);
    expect(await settings.get("p", "s")).toEqual(CHANGED);
    answer(STORE);
    expect(await before).toEqual(STORE);
  });

  test("fail for those who asked", async () => {
    const { settings } = settingsOver(new Error("away"), STORE);
    await expect(settings.get("p", "s")).rejects.toThrow("away");
    expect(await settings.get("p", "s")).toEqual(STORE);
  });
});
