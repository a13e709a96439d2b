/** The work on keys in the background: what one failure may hold up, and what is told of it; keys/key-keeper.ts. */

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { describe, expect, onTestFinished, test, vi } from "vitest";

import { KeyProviderError, type KeyProvider } from "../../src/envelope/key-provider.js";
import { KeyProviders } from "../../src/envelope/key-providers.js";
import { openKeyring } from "../../src/envelope/providers/local-keyring.js";
import { addDataKey } from "../../src/keys/data-keys.js";
import { KeyKeeper, type KeyKeeperOptions } from "../../src/keys/key-keeper.js";
import { reencrypt } from "../../src/keys/reencrypt.js";
import { openWorld, refTo, writeOf, type World } from "../envelope/world.js";

const STORE = { project: "default", store: "user-tokens" };
const DAY = 86_400_000;
const WAIT = { timeout: 10_000, interval: 20 };
const ALWAYS = () => Promise.resolve(true);

function services(world: World) {
  return { keys: world.database.keys, storeKeys: world.keys, maintenance: world.database.maintenance, now: Date.now };
}

/** A keeper that has begun, and its log. It is stopped when the test ends. */
function keep(world: World, options: Partial<KeyKeeperOptions> = {}) {
  const log: string[] = [];
  const note = (fields: object, message: string) => void log.push(`${message} ${JSON.stringify(fields)}`);
  const keeper = new KeyKeeper({
    ...services(world),
    providers: world.providers,
    logger: { debug: note, info: note, warn: note, error: note },
    periods: { masterKey: null, dataKey: null },
    interval: 60_000,
    ...options,
  });
  onTestFinished(() => keeper.stop());
  keeper.wake();
  return { keeper, log };
}

async function writeMany(world: World, count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    await world.records.commit([writeOf(refTo(randomBytes(32)), 1, randomBytes(120))]);
  }
}

const underVersion = (world: World, version: number) => async () =>
  (await world.database.keys.countWraps())
    .filter((one) => one.masterVersion === version)
    .reduce((sum, { wraps }) => sum + wraps, 0);

describe("one failure", () => {
  test("of a store's keys holds up no other store's re-encryption", async () => {
    const world = await openWorld();
    await world.addStore("default", "bad");
    await writeMany(world, 3);
    await addDataKey(services(world), STORE, 2);
    world.raw.prepare("update store_keys set wrapped = zeroblob(65) where store = 'bad' and purpose = 'index'").run();
    await world.database.keys.beginReencryption({ ...STORE, store: "bad" }, 1);
    await world.database.keys.beginReencryption(STORE, 2);
    const { keeper } = keep(world);
    const left = async () => (await world.database.keys.reencryptions()).map(({ store }) => store);
    await expect.poll(left, WAIT).toEqual(["bad"]);
    await expect.poll(() => keeper.failure, WAIT).not.toBeNull();
  });

  test("of a scheduled rotation holds up no rewrap, and nobody who unwraps", async () => {
    const world = await openWorld();
    await world.keyring.masterKeys.rotate();
    const { keyring } = world;
    const rotate = () => Promise.reject(new KeyProviderError("unavailable", "The policy lacks keys/one/rotate."));
    const provider: KeyProvider = {
      id: keyring.id,
      masterKeys: { ...keyring.masterKeys, rotate },
      currentVersion: () => keyring.currentVersion(),
      wrap: (key, context) => keyring.wrap(key, context),
      unwrap: (wrap, context) => keyring.unwrap(wrap, context),
      health: () => keyring.health(),
      close: () => keyring.close(),
    };
    const providers = new KeyProviders([provider], world.directory);
    const periods = { masterKey: 90 * DAY, dataKey: null };
    const { keeper } = keep(world, { providers, periods, now: () => Date.now() + 100 * DAY });
    await expect.poll(underVersion(world, 2), WAIT).toBe(2);
    await expect.poll(() => keeper.failure, WAIT).toContain("keys/one/rotate");
    const [wrap] = await world.database.keys.wrappedKeys(STORE.project, STORE.store);
    if (wrap === undefined) throw new Error("There is a key.");
    const { purpose, version } = wrap;
    for (let count = 0; count < 30; count++) {
      await providers.require(provider.id).unwrap(wrap, { ...STORE, purpose, version });
      await sleep(100);
    }
  });

  test("of the provider that keys are moved to is told, and the move goes on soon after it is mended", async () => {
    const world = await openWorld();
    const other = await openKeyring(`${world.folder}/other.json`, { create: true });
    const wrap = vi.spyOn(other, "wrap").mockRejectedValue(new KeyProviderError("refused", "It may not encrypt."));
    const providers = new KeyProviders([world.keyring, other], world.directory);
    await providers.activate(providers.require(other.id));
    const { keeper } = keep(world, { providers });
    await expect.poll(() => keeper.failure, WAIT).toBe("It may not encrypt.");
    wrap.mockRestore();
    const left = async () =>
      (await world.database.keys.countWraps()).filter(({ provider }) => provider !== other.id).length;
    await expect.poll(left, WAIT).toBe(0);
    await expect.poll(() => keeper.failure, WAIT).toBeNull();
  });

  test("of some wraps is told, with how many do not open", async () => {
    const world = await openWorld();
    await world.keyring.masterKeys.rotate();
    world.raw.prepare("update store_keys set wrapped = zeroblob(65) where purpose = 'index'").run();
    const { keeper, log } = keep(world);
    await expect.poll(() => keeper.failure, WAIT).toMatch(/^1 wrapped store keys do not open.*verify/);
    expect(await underVersion(world, 2)()).toBe(1);
    expect(log.join()).not.toContain("user-tokens");
  });
});

test("stopping waits for the calls under way, and for no more of them", async () => {
  const world = await openWorld();
  for (let index = 0; index < 31; index++) await world.addStore("default", `store-${index}`);
  await world.keyring.masterKeys.rotate();
  const unwrap = world.keyring.unwrap.bind(world.keyring);
  vi.spyOn(world.keyring, "unwrap").mockImplementation(async (wrap, context) => {
    await sleep(300);
    return await unwrap(wrap, context);
  });
  const { keeper } = keep(world);
  await sleep(100);
  const started = performance.now();
  await keeper.stop();
  expect(performance.now() - started).toBeLessThan(3_000);
  const done = await underVersion(world, 2)();
  expect(done).toBeLessThan(64);
});

describe("a re-encryption", () => {
  test("that leaves damaged bodies says so, and keeps their data key", async () => {
    const world = await openWorld();
    await writeMany(world, 2);
    world.raw.prepare("update record_versions set body = zeroblob(length(body)) where rowid = 1").run();
    await addDataKey(services(world), STORE, 2);
    await world.database.keys.beginReencryption(STORE, 2);
    const { log } = keep(world);
    const ended = async () => (await world.database.keys.reencryption(STORE))?.endedAt ?? null;
    await expect.poll(ended, WAIT).not.toBeNull();
    expect((await world.database.keys.reencryption(STORE))?.damaged).toBe(1);
    expect(log.join()).toContain("damaged records");
    const versions = (await world.database.keys.wrappedKeys(STORE.project, STORE.store)).map(({ version }) => version);
    expect(versions).toEqual([1, 2, 1]);
  });

  test("begun anew in its middle, at the same moment by the clock, begins at the begin and deletes no key in use", async () => {
    const world = await openWorld();
    const { keys } = world.database;
    await writeMany(world, 600);
    await addDataKey(services(world), STORE, 2);
    await keys.beginReencryption(STORE, 1_000);
    let steps = 0;
    const begunAnew = async () => {
      if (++steps === 3) {
        await addDataKey(services(world), STORE, 3);
        await keys.beginReencryption(STORE, 1_000);
      }
      return steps <= 4;
    };
    for (const one of await keys.reencryptions()) await reencrypt(services(world), one, begunAnew);
    expect(await keys.reencryption(STORE)).toMatchObject({ target: 3, version: 0 });
    for (const one of await keys.reencryptions()) {
      expect(await reencrypt(services(world), one, ALWAYS)).toBe("done");
    }
    const bodies = world.raw.prepare("select distinct key_version as version from record_versions").all();
    expect(bodies).toEqual([{ version: 3 }]);
    expect((await keys.wrappedKeys(STORE.project, STORE.store)).map(({ version }) => version)).toEqual([3, 1]);
  });

  test("believes no noted place: what lies before it is found before a key is deleted", async () => {
    const world = await openWorld();
    const { keys } = world.database;
    await writeMany(world, 50);
    await addDataKey(services(world), STORE, 2);
    await keys.beginReencryption(STORE, 1_000);
    const begun = await keys.reencryption(STORE);
    if (begun === null) throw new Error("It has begun.");
    const last = { ...begun, id: new Uint8Array(32).fill(0xff), version: 1 };
    expect(await reencrypt(services(world), last, ALWAYS)).toBe("done");
    const bodies = world.raw.prepare("select distinct key_version as version from record_versions").all();
    expect(bodies).toEqual([{ version: 2 }]);
  });
});

test("a data key that was added is answered as such, whatever of the store's keys does not open", async () => {
  const world = await openWorld();
  world.raw.prepare("update store_keys set wrapped = zeroblob(65) where purpose = 'index'").run();
  const { keys } = world.serve();
  expect(await addDataKey({ keys: world.database.keys, storeKeys: keys }, STORE, 2)).toBe(2);
});
