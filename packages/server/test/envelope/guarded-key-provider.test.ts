/** Bounds, counts and rests of calls to a key provider; envelope/guarded-key-provider.ts. */

import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { expect, test, vi } from "vitest";

import { GuardedKeyProvider } from "../../src/envelope/guarded-key-provider.js";
import { KeyProviderError, type WrapContext } from "../../src/envelope/key-provider.js";
import { openSwitchable } from "../keys/switchable-provider.js";
import { freshFolder } from "../world.js";

const CONTEXT: WrapContext = { project: "default", store: "s", purpose: "data", version: 1 };

async function open(options: { timeout?: number; rest?: number } = {}) {
  const provider = await openSwitchable(join(await freshFolder(), "keyring.json"));
  const calls: string[] = [];
  const guarded = new GuardedKeyProvider(provider, {
    ...options,
    observe: (kind, operation, outcome, seconds) => {
      expect(seconds).toBeGreaterThanOrEqual(0);
      calls.push(`${kind} ${operation} ${outcome}`);
    },
  });
  return { provider, guarded, calls };
}

test("every call is counted by kind, operation and outcome", async () => {
  const { provider, guarded, calls } = await open({ rest: 0 });
  const wrap = await guarded.wrap(randomBytes(32), CONTEXT);
  await guarded.unwrap(wrap, CONTEXT);
  await expect(guarded.unwrap(wrap, { ...CONTEXT, version: 2 })).rejects.toMatchObject({ fault: "refused" });
  provider.state = "unavailable";
  await expect(guarded.currentVersion()).rejects.toMatchObject({ fault: "unavailable" });
  expect(calls).toEqual(["local wrap ok", "local unwrap ok", "local unwrap refused", "local version unavailable"]);
});

test("a provider that does not answer is unavailable in time", async () => {
  const { provider, guarded } = await open({ timeout: 50 });
  provider.state = "silent";
  await expect(guarded.health()).rejects.toMatchObject({ fault: "unavailable" });
});

test("a failure that is no provider's own is not let through", async () => {
  const { provider, guarded, calls } = await open();
  vi.spyOn(provider, "wrap").mockRejectedValue(new Error("secret text"));
  const error: unknown = await guarded.wrap(randomBytes(32), CONTEXT).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ fault: "unavailable" });
  expect((error as Error).message).not.toContain("secret");
  expect(calls).toEqual(["local wrap failed"]);
});

test("while it is unavailable it is asked once in a while, and a refusal stops nobody", async () => {
  const { provider, guarded, calls } = await open({ rest: 200 });
  const wrap = await guarded.wrap(randomBytes(32), CONTEXT);
  await expect(guarded.unwrap(wrap, { ...CONTEXT, version: 2 })).rejects.toMatchObject({ fault: "refused" });
  await guarded.unwrap(wrap, CONTEXT);
  calls.length = 0;
  provider.state = "unavailable";
  for (let count = 0; count < 50; count++) {
    await expect(guarded.unwrap(wrap, CONTEXT)).rejects.toMatchObject({ fault: "unavailable" });
  }
  expect(calls).toHaveLength(1);
  provider.state = "on";
  await expect(guarded.unwrap(wrap, CONTEXT)).rejects.toMatchObject({ fault: "unavailable" });
  await new Promise((resolve) => setTimeout(resolve, 220));
  await guarded.unwrap(wrap, CONTEXT);
});

test("after the rest one call tries, and many others do not", async () => {
  const { provider, guarded, calls } = await open({ rest: 100, timeout: 2_000 });
  const wrap = await guarded.wrap(randomBytes(32), CONTEXT);
  provider.state = "unavailable";
  await expect(guarded.unwrap(wrap, CONTEXT)).rejects.toMatchObject({ fault: "unavailable" });
  await sleep(120);
  calls.length = 0;
  provider.state = "silent";
  const many = await Promise.allSettled(Array.from({ length: 200 }, () => guarded.unwrap(wrap, CONTEXT)));
  expect(many.every(({ status }) => status === "rejected")).toBe(true);
  expect(calls).toEqual(["local unwrap unavailable"]);
});

test("when it is back, all who wait for the one that tries are served", async () => {
  const { provider, guarded } = await open({ rest: 50 });
  const wrap = await guarded.wrap(randomBytes(32), CONTEXT);
  provider.state = "unavailable";
  await expect(guarded.unwrap(wrap, CONTEXT)).rejects.toMatchObject({ fault: "unavailable" });
  provider.state = "on";
  await sleep(60);
  await Promise.all(Array.from({ length: 20 }, () => guarded.unwrap(wrap, CONTEXT)));
});

test("what fails of its administration says nothing of wrapping, and is bounded", async () => {
  const { provider, guarded } = await open({ timeout: 50 });
  const wrap = await guarded.wrap(randomBytes(32), CONTEXT);
  const away = new KeyProviderError("unavailable", "The rotation is under way.");
  provider.masterKeys = { ...provider.keyring.masterKeys, rotate: () => Promise.reject(away) };
  const again = new GuardedKeyProvider(provider, { timeout: 50 });
  await expect(again.masterKeys?.rotate()).rejects.toBe(away);
  await again.unwrap(wrap, CONTEXT);
  provider.masterKeys = { ...provider.keyring.masterKeys, versions: () => new Promise<never>(() => {}) };
  const silent = new GuardedKeyProvider(provider, { timeout: 50 });
  await expect(silent.masterKeys?.versions()).rejects.toMatchObject({ fault: "unavailable" });
});

test("rewrapping is unwrapping and wrapping where the provider has no way of its own", async () => {
  const { provider, guarded } = await open();
  const key = randomBytes(32);
  const wrap = await guarded.wrap(Uint8Array.from(key), CONTEXT);
  await provider.keyring.masterKeys.rotate();
  const renewed = await guarded.rewrap(wrap, CONTEXT);
  expect(renewed.masterVersion).toBe(2);
  expect(Buffer.from(await guarded.unwrap(renewed, CONTEXT)).equals(key)).toBe(true);
});

test("a wrap with numbers that no key can have is refused without asking, and the provider goes on", async () => {
  const { provider, guarded, calls } = await open();
  const wrap = await guarded.wrap(randomBytes(32), CONTEXT);
  calls.length = 0;
  const asked = vi.spyOn(provider, "unwrap");
  for (const number of [0, -1, 0.5, 2 ** 32, 2 ** 53, 2 ** 63, NaN]) {
    for (const call of ["unwrap", "rewrap"] as const) {
      await expect(guarded[call](wrap, { ...CONTEXT, version: number })).rejects.toMatchObject({ fault: "refused" });
      await expect(guarded[call]({ ...wrap, masterVersion: number }, CONTEXT)).rejects.toMatchObject({
        fault: "refused",
      });
    }
  }
  expect(asked).not.toHaveBeenCalled();
  expect(calls).toEqual([]);
  await guarded.unwrap(wrap, CONTEXT);
});
