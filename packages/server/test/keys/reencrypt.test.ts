/** Re-encryption of a store whose rows were edited or damaged: it gives up no data key that a body is under; keys/reencrypt.ts. */

import { randomBytes } from "node:crypto";

import { describe, expect, test } from "vitest";

import { addDataKey } from "../../src/keys/data-keys.js";
import { reencrypt } from "../../src/keys/reencrypt.js";
import { openWorld, refTo, writeOf } from "../envelope/world.js";

const REF = { project: "default", store: "user-tokens" };

/** A world with ten records under data key 1. */
async function openRecords() {
  const world = await openWorld();
  const written = Array.from({ length: 10 }, (_, index) => ({
    ref: refTo(randomBytes(32)),
    body: randomBytes(100 + index),
  }));
  await world.records.commit(written.map(({ ref, body }) => writeOf(ref, 1, body)));
  const services = {
    keys: world.database.keys,
    storeKeys: world.keys,
    maintenance: world.database.maintenance,
    now: Date.now,
  };
  return {
    ...world,
    /** As a server that begins now reads them; null for what is damaged. */
    read: async () => {
      const { records } = world.serve();
      return await Promise.all(
        written.map(async ({ ref, body }) => {
          const [found] = await records.read([ref]).catch(() => [null]);
          return found && found.kept !== null && Buffer.compare(found.kept.body, body) === 0;
        }),
      );
    },
    /** A new data key, and everything under it. */
    rotate: async () => {
      await addDataKey(services, REF, 5);
      await world.database.keys.beginReencryption(REF, 5);
      const begun = (await world.database.keys.reencryption(REF)) ?? expect.unreachable();
      await reencrypt(services, begun, () => Promise.resolve(true));
      const left = await world.database.keys.reencryptions();
      expect(left.filter(({ endedAt }) => endedAt === null)).toEqual([]);
    },
    dataKeys: async () =>
      (await world.database.keys.wrappedKeys(REF.project, REF.store)).flatMap(({ purpose, version }) =>
        purpose === "data" ? [version] : [],
      ),
  };
}

const ALL = Array.from({ length: 10 }, () => true);

describe("re-encryption", () => {
  test("ends with one data key, under which everything is", async () => {
    const { read, rotate, dataKeys } = await openRecords();
    for (const version of [2, 3]) {
      await rotate();
      expect(await read()).toEqual(ALL);
      expect(await dataKeys()).toEqual([version]);
    }
  });

  test.each(["null", "0", "2", "3", "-1", "9223372036854775807"])(
    "loses no record whose row names another data key than its body: %s",
    async (named) => {
      const { raw, read, rotate, dataKeys } = await openRecords();
      raw.exec(`update record_versions set key_version = ${named} where rowid = 5`);
      expect(await read()).toEqual(ALL);
      await rotate();
      expect(await read()).toEqual(ALL);
      expect(await dataKeys()).toEqual([2]);
    },
  );

  test("has every body that another server writes under a newer data key meanwhile", async () => {
    const { raw, read, dataKeys, ...world } = await openRecords();
    const services = {
      keys: world.database.keys,
      storeKeys: world.keys,
      maintenance: world.database.maintenance,
      now: Date.now,
    };
    await addDataKey(services, REF, 5);
    await world.database.keys.beginReencryption(REF, 5);
    const begun = (await world.database.keys.reencryption(REF)) ?? expect.unreachable();
    await world.rotateDataKey(3);
    const { records } = world.serve();
    const ref = refTo(randomBytes(32));
    await records.commit([writeOf(ref, 1, randomBytes(100))]);
    await reencrypt(services, begun, () => Promise.resolve(true));
    expect(await read()).toEqual(ALL);
    expect((await records.read([ref]))[0]?.kept).toMatchObject({ version: 1 });
    // Of the target's version there was no key left to give up: it is the one that was retired last.
    expect(await dataKeys()).toEqual([2, 3]);
    expect(raw.prepare("select count(*) from record_versions where key_version = 3").pluck().get()).toBe(11);
  });

  test.each([
    ["its ciphertext", "substr(body, 1, 60) || x'00' || substr(body, 62)"],
    ["the data key that it names", "x'0100000009' || substr(body, 6)"],
    ["everything", "zeroblob(length(body))"],
  ])("keeps the data keys while a body is damaged: %s", async (_, damaged) => {
    const { raw, read, rotate, dataKeys } = await openRecords();
    const sound = raw.prepare("select body from record_versions where rowid = 5").pluck().get();
    raw.exec(`update record_versions set body = cast(${damaged} as blob) where rowid = 5`);
    await rotate();
    expect((await read()).filter((isThere) => isThere)).toHaveLength(9);
    expect(await dataKeys()).toEqual([1, 2]);
    // What a backup brings back opens.
    raw.prepare("update record_versions set body = ? where rowid = 5").run(sound);
    expect(await read()).toEqual(ALL);
    await rotate();
    expect(await read()).toEqual(ALL);
    expect(await dataKeys()).toEqual([3]);
  });
});
