/** What does not open is named, and all the rest is checked all the same; spec/envelope.md § Verifying. */

import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { openBackup } from "../../src/backup/open-backup.js";
import { snapshotSource } from "../../src/backup/source.js";
import { verify, type VerifySummary } from "../../src/backup/verify.js";
import { KeyProviderError, type KeyProvider } from "../../src/envelope/key-provider.js";
import { KeyProviders } from "../../src/envelope/key-providers.js";
import { openKeyring } from "../../src/envelope/providers/local-keyring.js";
import { openSqliteSnapshot } from "../../src/storage/sqlite.js";
import { backUp, freshFolder, openWorld } from "./world.js";

type World = Awaited<ReturnType<typeof openWorld>>;
type Verdict = VerifySummary & { damage: string[] };

async function verifyDatabase(world: World, provider: KeyProvider = world.keyring): Promise<Verdict> {
  const snapshot = await openSqliteSnapshot(world.file);
  const damage: string[] = [];
  try {
    const source = await snapshotSource(snapshot);
    const summary = await verify({
      source,
      providers: KeyProviders.forUnwrapping([provider]),
      onDamage: (what) => damage.push(what),
    });
    return { ...summary, damage };
  } finally {
    await snapshot.close();
  }
}

async function verifyBackup(world: World, directory: string, keysFile?: string): Promise<Verdict> {
  const source = await openBackup({ directory, keysFile });
  const damage: string[] = [];
  try {
    const summary = await verify({
      source,
      providers: KeyProviders.forUnwrapping([world.keyring]),
      onDamage: (what) => damage.push(what),
    });
    return { ...summary, damage };
  } finally {
    await source.close();
  }
}

const SOUND = { stores: 2, keys: 4, records: 5, versions: 8, damaged: 0, damage: [] };

describe("verify", () => {
  test("opens everything there is, in a database and in its backup alike", async () => {
    const world = await openWorld();
    expect(await verifyDatabase(world)).toEqual(SOUND);
    const folder = await freshFolder();
    await backUp(world, join(folder, "backup"));
    expect(await verifyBackup(world, join(folder, "backup"))).toEqual(SOUND);
  });

  test.each([
    [
      "a body",
      "update record_versions set body = zeroblob(length(body)) where version = 3",
      /, version 3: it does not open\.$/,
    ],
    ["a state", "update records set active = 0 where version = 3", /: its state does not verify\.$/],
    ["a tag", "update records set tag = null where version = 3", /: its state does not verify\.$/],
    [
      "a current version that is missing",
      "delete from record_versions where version = 3",
      /, version 3: it is missing\.$/,
    ],
    [
      "a body of another version",
      "update record_versions set body = (select body from record_versions v where v.version = 1 and v.record_id = record_versions.record_id) where version = 3",
      /, version 3: it does not open\.$/,
    ],
  ])("names %s that was damaged, and that alone", async (_, sql, sentence) => {
    const world = await openWorld();
    const id = world.raw.prepare("select hex(record_id) from records where version = 3").pluck().get() as string;
    world.raw.exec(sql);
    const folder = await freshFolder();
    await backUp(world, join(folder, "backup"));
    for (const verdict of [await verifyDatabase(world), await verifyBackup(world, join(folder, "backup"))]) {
      expect(verdict.damage).toEqual([expect.stringMatching(sentence)]);
      expect(verdict.damage[0]).toContain(`Record ${id.toLowerCase()} of store user-tokens in project default`);
      expect(verdict).toMatchObject({ records: 5, damaged: 1 });
    }
  });

  test("names a wrapped key that does not open, and the store that is closed by it", async () => {
    const world = await openWorld();
    world.raw.exec("update store_keys set wrapped = zeroblob(65) where store = 'zeta' and purpose = 'index'");
    const { damage, damaged, records, versions } = await verifyDatabase(world);
    expect(damage[0]).toContain("The index key 1 of store zeta in project default does not open:");
    expect(damage[1]).toBe("Store default/zeta has no usable keys: its 1 record cannot be opened.");
    expect({ damaged, records, versions }).toEqual({ damaged: 2, records: 5, versions: 7 });
    world.raw.exec("delete from store_keys where store = 'zeta'");
    expect((await verifyDatabase(world)).damage).toEqual([damage[1]]);
  });

  test("leaves out a store that newer keys show to be destroyed", async () => {
    const world = await openWorld();
    const folder = await freshFolder();
    await backUp(world, join(folder, "before"));
    await world.directory.destroyStore("default", "zeta", 9);
    await backUp(world, join(folder, "after"));
    const verdict = await verifyBackup(world, join(folder, "before"), join(folder, "after", "keys.jsonl"));
    expect(verdict).toEqual({ ...SOUND, stores: 1, keys: 2, records: 4, versions: 7 });
  });

  test("takes another keyring, or one that is out of reach, for what it is and not for damage", async () => {
    const world = await openWorld();
    const other = await openKeyring(join(await freshFolder(), "other.json"), { create: true });
    await expect(verifyDatabase(world, other)).rejects.toThrow("This is another keyring");
    const away: KeyProvider = {
      id: world.keyring.id,
      currentVersion: () => Promise.resolve(1),
      wrap: () => Promise.reject(new KeyProviderError("unavailable", "away")),
      unwrap: () => Promise.reject(new KeyProviderError("unavailable", "away")),
      health: () => Promise.resolve(),
      close: () => Promise.resolve(),
    };
    await expect(verifyDatabase(world, away)).rejects.toThrow("away");
  });
});
