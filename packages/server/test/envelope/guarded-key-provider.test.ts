/** Bounds, counts and rests of calls to a key provider; envelope/guarded-key-provider.ts. */

import { randomBytes } from "node:crypto";
import { join } from "node:path";

import { expect, onTestFinished, test, vi } from "vitest";

import { GuardedKeyProvider } from "../../src/envelope/guarded-key-provider.js";
import type { WrapContext } from "../../src/envelope/key-provider.js";
import { openKeyProvider } from "../../src/envelope/open-key-provider.js";
import { openSwitchable } from "../keys/switchable-provider.js";
import { freshFolder } from "../world.js";
import { TransitDouble, leastPolicy } from "./providers/transit-double.js";

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

test("master keys that are an object of a class can do guarded what they can do", async () => {
  const double = await TransitDouble.start();
  onTestFinished(() => double.stop());
  double.createKey("one");
  const token = double.createToken({ policy: leastPolicy("transit", "one") });
  const environment = { TACENDA_TRANSIT_TOKEN: token };
  const provider = await openKeyProvider(`transit:${double.url}/transit/keys/one`, { environment, create: false });
  const { masterKeys } = new GuardedKeyProvider(provider);
  const states = async () => (await masterKeys?.versions())?.map(({ state }) => state);
  expect(await masterKeys?.rotate()).toBe(2);
  await masterKeys?.retire?.(1);
  expect(await states()).toEqual(["retired", "enabled"]);
  await masterKeys?.reinstate?.(1);
  expect(await states()).toEqual(["enabled", "enabled"]);
  await masterKeys?.retire?.(1);
  await masterKeys?.destroy?.(1);
  expect(await states()).toEqual(["destroyed", "enabled"]);
  expect(masterKeys?.scheduled).toBe(true);
  await provider.close();
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

test("rewrapping is unwrapping and wrapping where the provider has no way of its own", async () => {
  const { provider, guarded } = await open();
  const key = randomBytes(32);
  const wrap = await guarded.wrap(Uint8Array.from(key), CONTEXT);
  await provider.keyring.masterKeys.rotate();
  const renewed = await guarded.rewrap(wrap, CONTEXT);
  expect(renewed.masterVersion).toBe(2);
  expect(Buffer.from(await guarded.unwrap(renewed, CONTEXT)).equals(key)).toBe(true);
});
