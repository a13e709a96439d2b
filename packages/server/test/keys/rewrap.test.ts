/** Wrapping store keys anew: what is verified, what is left alone, and going on after being stopped; keys/rewrap.ts. */

import { randomBytes } from "node:crypto";
import { join } from "node:path";

import { describe, expect, test, vi } from "vitest";

import { KeyProviderError } from "../../src/envelope/key-provider.js";
import { KeyProviders } from "../../src/envelope/key-providers.js";
import { openKeyring } from "../../src/envelope/providers/local-keyring.js";
import { rewrapOutdated } from "../../src/keys/rewrap.js";
import { openWorld } from "../envelope/world.js";

const ALWAYS = () => Promise.resolve(true);
const LEASE = { name: "keys", owner: "this test" };

/** A world with `stores` stores, and another keyring beside its own. */
async function openMany(stores: number) {
  const world = await openWorld();
  await world.database.maintenance.acquireLease(LEASE, 600_000);
  for (let index = 1; index < stores; index++) await world.addStore("default", `store-${index}`);
  const other = await openKeyring(join(world.folder, "other.json"), { create: true });
  const providers = new KeyProviders([world.keyring, other], world.directory, { rest: 0 });
  const services = { keys: world.database.keys, providers };
  const counts = () => world.database.keys.countWraps();
  /** Every store key as it is unwrapped now. */
  const plain = async () => {
    const keys = [];
    for (const key of await world.database.keys.findOutdated({ provider: "", masterVersion: 0 }, null, 1_000)) {
      const { project, store, purpose, version } = key;
      keys.push(await providers.require(key.provider).unwrap(key, { project, store, purpose, version }));
    }
    return keys;
  };
  const activate = () => providers.activate(providers.require(other.id));
  return { ...world, other, services, counts, plain, activate };
}

describe("wrapping store keys anew", () => {
  test("leaves the keys what they were, under the new version of the same provider", async () => {
    const { keyring, services, counts, plain } = await openMany(70);
    const before = await plain();
    await keyring.masterKeys.rotate();
    expect(await rewrapOutdated(services, LEASE, ALWAYS)).toEqual({ rewrapped: 140, refused: 0, failure: null });
    expect(await counts()).toEqual([{ provider: keyring.id, masterVersion: 2, wraps: 140 }]);
    expect(await plain()).toEqual(before);
    expect(await rewrapOutdated(services, LEASE, ALWAYS)).toEqual({ rewrapped: 0, refused: 0, failure: null });
  });

  test("or under another provider", async () => {
    const { other, services, counts, plain, activate } = await openMany(3);
    const before = await plain();
    await activate();
    expect(await rewrapOutdated(services, LEASE, ALWAYS)).toEqual({ rewrapped: 6, refused: 0, failure: null });
    expect(await counts()).toEqual([{ provider: other.id, masterVersion: 1, wraps: 6 }]);
    expect(await plain()).toEqual(before);
  });

  test("stops between two keys, and goes on from there", async () => {
    const { keyring, services, counts, plain } = await openMany(70);
    const before = await plain();
    await keyring.masterKeys.rotate();
    let asked = 0;
    await rewrapOutdated(services, LEASE, () => Promise.resolve(++asked <= 50));
    const done = (await counts())[1]?.wraps ?? 0;
    expect(done).toBe(50);
    expect(await plain()).toEqual(before);
    expect(await rewrapOutdated(services, LEASE, ALWAYS)).toEqual({ rewrapped: 140 - done, refused: 0, failure: null });
    expect(await plain()).toEqual(before);
  });

  test("gives up no wrap for one that holds another key", async () => {
    const { other, services, counts, activate } = await openMany(2);
    await activate();
    const wrap = other.wrap.bind(other);
    vi.spyOn(other, "wrap").mockImplementation((key, context) => wrap(Uint8Array.from(key).fill(7), context));
    const before = await counts();
    const { failure } = await rewrapOutdated(services, LEASE, ALWAYS);
    expect(failure?.message).toContain("another key than it was given");
    expect(await counts()).toEqual(before);
  });

  test("gives up no wrap for one that does not open", async () => {
    const { other, services, counts, activate } = await openMany(2);
    await activate();
    const wrap = other.wrap.bind(other);
    vi.spyOn(other, "wrap").mockImplementation(async (key, context) => {
      const made = await wrap(key, context);
      return { ...made, wrapped: made.wrapped.map((byte, index) => (index === 40 ? byte ^ 1 : byte)) };
    });
    const before = await counts();
    expect(await rewrapOutdated(services, LEASE, ALWAYS)).toMatchObject({
      rewrapped: 0,
      failure: { fault: "refused" },
    });
    expect(await counts()).toEqual(before);
  });

  test("leaves a damaged wrap as it is, and does all others", async () => {
    const { keyring, raw, services, counts } = await openMany(3);
    raw.prepare("update store_keys set wrapped = zeroblob(65) where store = 'store-1' and purpose = 'data'").run();
    await keyring.masterKeys.rotate();
    expect(await rewrapOutdated(services, LEASE, ALWAYS)).toEqual({ rewrapped: 5, refused: 1, failure: null });
    expect(await counts()).toMatchObject([{ wraps: 1 }, { wraps: 5 }]);
  });

  test("does all that it can while the provider of one key is away", async () => {
    const { keyring, other, raw, services, counts } = await openMany(70);
    const context = { project: "default", store: "store-1", purpose: "data", version: 1 } as const;
    const { wrapped } = await other.wrap(randomBytes(32), context);
    const move = raw.prepare("update store_keys set provider = ?, wrapped = ? where store = ? and purpose = 'data'");
    move.run(other.id, wrapped, "store-1");
    vi.spyOn(other, "unwrap").mockRejectedValue(new KeyProviderError("unavailable", "It is away."));
    await keyring.masterKeys.rotate();
    const result = await rewrapOutdated(services, LEASE, ALWAYS);
    expect(result).toMatchObject({ rewrapped: 139, refused: 0, failure: { fault: "unavailable" } });
    expect((await counts()).map(({ wraps }) => wraps).sort((a, b) => a - b)).toEqual([1, 139]);
  });

  test("ends when the target fails, with what was committed", async () => {
    const { keyring, services, counts } = await openMany(70);
    await keyring.masterKeys.rotate();
    let asked = 0;
    const fail = () => {
      if (++asked === 80) vi.spyOn(keyring, "wrap").mockRejectedValue(new KeyProviderError("refused", "It may not."));
      return Promise.resolve(true);
    };
    const { rewrapped, failure } = await rewrapOutdated(services, LEASE, fail);
    expect(failure?.message).toBe("It may not.");
    expect(rewrapped).toBeGreaterThanOrEqual(64);
    expect(rewrapped).toBeLessThan(90);
    expect((await counts())[1]?.wraps).toBe(rewrapped);
  });
});
