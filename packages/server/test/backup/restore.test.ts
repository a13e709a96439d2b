/** A restored database is the one that was backed up, or the restore is refused and says why; spec/envelope.md § Restoring. */

import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { copyFile, mkdir } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { openDataSnapshot } from "../../src/data-directory.js";
import { openKeyring } from "../../src/envelope/providers/local-keyring.js";
import { addDataKey } from "../../src/keys/data-keys.js";
import { reencrypt } from "../../src/keys/reencrypt.js";
import { startServer } from "../../src/server.js";
import type { Database } from "../../src/storage/database.js";
import { openSqlite } from "../../src/storage/sqlite.js";
import { refTo, writeOf } from "../envelope/world.js";
import { backUp, databaseContents, freshFolder, openWorld, restore } from "./world.js";

const dbIn = (dataDir: string) => join(dataDir, "tacenda.db");

class Killed extends Error {}

/** Lets `count` batches through; then, as if killed, the database does no more. */
function killAfter(count: number): (database: Database) => void {
  return ({ restoration }) => {
    const commit = restoration.commit.bind(restoration);
    let left = count;
    restoration.commit = (...args) => (left-- > 0 ? commit(...args) : Promise.reject(new Killed()));
  };
}

describe("a restored database", () => {
  test("is the one that was backed up: ids, versions, tags, times, tokens, and ids that are never used again", async () => {
    const world = await openWorld();
    const folder = await freshFolder();
    const directory = join(folder, "backup");
    const dataDir = join(folder, "data");
    await backUp(world, directory);
    const { destroyed, ...counts } = await restore({ directory, dataDir, provider: world.keyring });
    expect(counts).toEqual({ stores: 2, records: 5, versions: 8 });
    expect(destroyed).toEqual([]);
    expect(await databaseContents(dbIn(dataDir))).toEqual(await databaseContents(world.file));
    const database = await openSqlite(dbIn(dataDir));
    const settings = { secrets: "one", maxVersions: 10, createdAt: 1 } as const;
    expect(await database.directory.createStore("default", { id: "gone", ...settings }, [])).toBe("retired");
    expect(await database.directory.createProject({ id: "dead", createdAt: 1 })).toBe("retired");
    expect((await database.directory.findToken("a"))?.mintedBy).toBe("b");
    await database.close();
    // And so is what a backup of it comes to.
    await backUp({ file: dbIn(dataDir) }, join(folder, "again"));
    await restore({ directory: join(folder, "again"), dataDir: join(folder, "third"), provider: world.keyring });
    expect(await databaseContents(dbIn(join(folder, "third")))).toEqual(await databaseContents(world.file));
  });

  test("is so after the restore was killed at every batch, and is of no use until it is finished", async () => {
    const world = await openWorld();
    const folder = await freshFolder();
    const directory = join(folder, "backup");
    const dataDir = join(folder, "data");
    // Bodies that make some batches.
    for (let count = 0; count < 12; count++) {
      await world.records.commit([writeOf(refTo(randomBytes(32)), 1, randomBytes(400_000))]);
    }
    await backUp(world, directory);
    const options = { directory, dataDir, provider: world.keyring };
    let kills = 0;
    for (;;) {
      try {
        // The mark of a new restore is a commit of its own.
        await restore({ ...options, meddle: killAfter(kills === 0 ? 1 : 2) });
        break;
      } catch (error) {
        expect(error).toBeInstanceOf(Killed);
        kills++;
      }
      await expect(openDataSnapshot(dataDir)).rejects.toThrow("is half restored. Run the same restore again");
      await expect(startServer({ dataDir, port: 0 })).rejects.toThrow("is half restored. Run the same restore again");
      expect(existsSync(join(dataDir, "keyring.json"))).toBe(false);
    }
    expect(kills).toBeGreaterThanOrEqual(3);
    expect(await databaseContents(dbIn(dataDir))).toEqual(await databaseContents(world.file));
  });
});

describe("a restore is refused", () => {
  test("where there is a database with anything in it, which stays as it is", async () => {
    const world = await openWorld();
    const folder = await freshFolder();
    const directory = join(folder, "backup");
    await backUp(world, directory);
    const dataDir = join(folder, "data");
    await (await startServer({ dataDir, port: 0 })).close();
    const before = await databaseContents(dbIn(dataDir));
    await expect(restore({ directory, dataDir, provider: world.keyring })).rejects.toThrow(
      `There is something in the database in ${dataDir} already`,
    );
    expect(await databaseContents(dbIn(dataDir))).toEqual(before);
    const finished = join(folder, "finished");
    await restore({ directory, dataDir: finished, provider: world.keyring });
    await expect(restore({ directory, dataDir: finished, provider: world.keyring })).rejects.toThrow("already");
  });

  test("where another one is half done", async () => {
    const world = await openWorld();
    const folder = await freshFolder();
    const dataDir = join(folder, "data");
    await backUp(world, join(folder, "one"));
    await backUp(world, join(folder, "two"));
    const begun = { directory: join(folder, "one"), dataDir, provider: world.keyring };
    await expect(restore({ ...begun, meddle: killAfter(1) })).rejects.toThrow(Killed);
    await expect(restore({ ...begun, directory: join(folder, "two") })).rejects.toThrow("is half restored");
    await restore(begun);
  });

  test("while a server runs on the data directory", async () => {
    const world = await openWorld();
    const folder = await freshFolder();
    const dataDir = join(folder, "data");
    await backUp(world, join(folder, "backup"));
    const server = await startServer({ dataDir, port: 0 });
    const options = { directory: join(folder, "backup"), dataDir, provider: world.keyring };
    await expect(restore(options)).rejects.toThrow("Another Tacenda server uses this data directory");
    await server.close();
  });
});

describe("before anything is written, a restore says", () => {
  async function setUp() {
    const world = await openWorld();
    const folder = await freshFolder();
    const directory = join(folder, "backup");
    const keyring = join(world.folder, "keyring.json");
    return { world, folder, directory, dataDir: join(folder, "data"), keyring };
  }

  /** A copy of the keyring in `file`, after a rotation and what became of version 1. */
  async function rotated(file: string, target: string, fate: "enabled" | "retired" | "destroyed") {
    await copyFile(file, target);
    const keyring = await openKeyring(target, { create: false });
    await keyring.masterKeys.rotate();
    if (fate !== "enabled") await keyring.masterKeys.retire(1);
    if (fate === "destroyed") await keyring.masterKeys.destroy(1);
    return keyring;
  }

  test("that it is another keyring, and names both", async () => {
    const { world, folder, directory, dataDir } = await setUp();
    await backUp(world, directory);
    const other = await openKeyring(join(folder, "other.json"), { create: true });
    await expect(restore({ directory, dataDir, provider: other })).rejects.toThrow(
      `This is another keyring: it is ${other.id}, and the store keys need ${world.keyring.id}. Name the right one`,
    );
    expect(existsSync(dataDir)).toBe(false);
  });

  test.each(["retired", "destroyed"] as const)(
    "which version of the master key is %s, and of which key",
    async (fate) => {
      const { world, folder, directory, dataDir, keyring } = await setUp();
      await backUp(world, directory);
      const without = await rotated(keyring, join(folder, "without.json"), fate);
      await expect(restore({ directory, dataDir, provider: without })).rejects.toThrow(
        new RegExp(
          String.raw`the \w+ key 1 of store user-tokens in project default \(wrapped under master-key version 1\) does not open: ` +
            `.*Master-key version 1 .* (?:is|was) ${fate}`,
        ),
      );
      expect(existsSync(dataDir)).toBe(false);
      const whole = await rotated(keyring, join(folder, "whole.json"), "enabled");
      await restore({ directory, dataDir, provider: whole });
    },
  );

  test("which wrapped key names a provider that was not given, where others name the one that was", async () => {
    const { world, directory, dataDir } = await setUp();
    world.raw.exec("update store_keys set provider = 'local:other' where store = 'zeta' and purpose = 'data'");
    await backUp(world, directory);
    await expect(restore({ directory, dataDir, provider: world.keyring })).rejects.toThrow(
      /the data key 1 of store zeta in project default .* does not open: it names the key provider local:other/,
    );
    expect(existsSync(dataDir)).toBe(false);
  });

  test("which wrapped key is damaged", async () => {
    const { world, directory, dataDir } = await setUp();
    const wrapped = (await world.database.keys.wrappedKeys("default", "zeta")).find(
      ({ purpose }) => purpose === "data",
    );
    const damaged = Buffer.from(wrapped?.wrapped ?? []);
    damaged[40] = (damaged[40] ?? 0) ^ 1;
    world.raw.prepare("update store_keys set wrapped = ? where store = 'zeta' and purpose = 'data'").run(damaged);
    await backUp(world, directory);
    await expect(restore({ directory, dataDir, provider: world.keyring })).rejects.toThrow(
      "Nothing was restored, for the data key 1 of store zeta in project default",
    );
    expect(existsSync(dataDir)).toBe(false);
  });
});

test("records whose data key is not among newer keys are refused before anything is written", async () => {
  const world = await openWorld();
  const folder = await freshFolder();
  const [before, after] = [join(folder, "before"), join(folder, "after")];
  await backUp(world, before);
  const ref = { project: "default", store: "zeta" };
  const services = {
    keys: world.database.keys,
    storeKeys: world.keys,
    maintenance: world.database.maintenance,
    now: Date.now,
  };
  await addDataKey(services, ref, 2);
  await services.keys.beginReencryption(ref, 1);
  for (const one of await services.keys.reencryptions()) await reencrypt(services, one, () => Promise.resolve(true));
  await backUp(world, after);
  const dataDir = join(folder, "data");
  const keysFile = join(after, "keys.jsonl");
  await expect(restore({ directory: before, keysFile, dataDir, provider: world.keyring })).rejects.toThrow(
    /Nothing was restored, for records of store default\/zeta need its data key 1/,
  );
  expect(existsSync(dataDir)).toBe(false);
  await restore({ directory: before, dataDir, provider: world.keyring });
});

test("a destroyed store's records do not open with newer keys, and all others do", async () => {
  const world = await openWorld();
  const folder = await freshFolder();
  const [before, after] = [join(folder, "before"), join(folder, "after")];
  await backUp(world, before);
  await world.directory.destroyStore("default", "zeta", 9);
  await world.addStore("default", "newer");
  await backUp(world, after);
  // Whoever has the older keys as well opens it still.
  const both = await restore({ directory: before, dataDir: join(folder, "both"), provider: world.keyring });
  expect(both).toMatchObject({ stores: 2, records: 5, destroyed: [] });

  const dataDir = join(folder, "data");
  const keysFile = join(folder, "keys.jsonl");
  await copyFile(join(after, "keys.jsonl"), keysFile);
  const restored = await restore({ directory: before, keysFile, dataDir, provider: world.keyring });
  expect(restored).toEqual({
    stores: 1,
    records: 4,
    versions: 7,
    destroyed: [{ project: "default", store: "zeta" }],
  });
  const database = await openSqlite(dbIn(dataDir));
  const settings = { secrets: "one", maxVersions: 10, createdAt: 1 } as const;
  expect(await database.directory.createStore("default", { id: "zeta", ...settings }, [])).toBe("retired");
  expect((await database.directory.listStores("default"))?.map(({ id }) => id)).toEqual(["user-tokens"]);
  expect((await database.maintenance.scan(null, 100)).rows.every(({ store }) => store === "user-tokens")).toBe(true);
  await database.close();
});

test("the keyring may wait in the new data directory, and no keyring is made there", async () => {
  const world = await openWorld();
  const folder = await freshFolder();
  const dataDir = join(folder, "data");
  await mkdir(dataDir, { mode: 0o700 });
  await copyFile(join(world.folder, "keyring.json"), join(dataDir, "keyring.json"));
  await backUp(world, join(folder, "backup"));
  await restore({ directory: join(folder, "backup"), dataDir, provider: world.keyring });
  const server = await startServer({ dataDir, port: 0 });
  expect(await server.directory.listStores("default")).toHaveLength(2);
  await server.close();
});
