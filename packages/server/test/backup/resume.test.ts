/** A backup that was cut off anywhere is finished by the same call, and is of the last snapshot; spec/envelope.md § Runs. */

import { randomBytes } from "node:crypto";
import { mkdir, readFile, readdir, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { openBackupDirectory } from "../../src/backup/backup-directory.js";
import { openBackup } from "../../src/backup/open-backup.js";
import { snapshotSource } from "../../src/backup/source.js";
import { openSqliteSnapshot } from "../../src/storage/sqlite.js";
import { refTo, writeOf } from "../envelope/world.js";
import { backUp, backupContents, contentsOf, freshFolder, openWorld } from "./world.js";

type World = Awaited<ReturnType<typeof openWorld>>;

async function contentsOfDatabase(world: World): Promise<string[]> {
  const snapshot = await openSqliteSnapshot(world.file);
  try {
    return await contentsOf(await snapshotSource(snapshot));
  } finally {
    await snapshot.close();
  }
}

/** Cuts at each line's beginning, middle and end. */
function cutsOf(bytes: Buffer): number[] {
  const cuts = [0];
  for (let start = 0; start < bytes.length;) {
    const end = bytes.indexOf(10, start) + 1;
    cuts.push(Math.floor((start + end) / 2), end - 1, end);
    start = end;
  }
  return cuts;
}

/** A directory in which a backup was killed when the file of records was as long as this. */
async function interruptedAt(folder: string, name: string, records: Buffer, keys?: Buffer): Promise<string> {
  const directory = join(folder, name);
  await mkdir(directory, { mode: 0o700 });
  await writeFile(join(directory, "records.jsonl.partial"), records, { mode: 0o600 });
  await writeFile(join(directory, "lock"), "");
  if (keys) await writeFile(join(directory, "keys.jsonl"), keys, { mode: 0o600 });
  return directory;
}

/** Changes of every kind that a record, a store or a key can undergo. */
async function change(world: World): Promise<void> {
  const { ids, records, raw, rotateDataKey, keys, addStore, directory } = world;
  const [, second, third, fourth] = ids.map((id) => refTo(id));
  if (!second || !third || !fourth) throw new Error("The world has four records.");
  // A new version; attributes; the end of earlier versions; a new record.
  await records.commit([writeOf(second, 3, randomBytes(200))]);
  const state = { version: 3, protected: false, active: true };
  await records.commit([{ ref: third, expect: state, next: { ...state, active: false }, keepVersions: 10 }]);
  await records.commit([{ ...writeOf(fourth, 2, randomBytes(75)), purgeEarlier: true }]);
  for (let count = 0; count < 3; count++) await records.commit([writeOf(refTo(randomBytes(32)), 1, randomBytes(99))]);
  // A record that vanishes, as no server does it; and one encrypted anew under the next data key, its version the same.
  raw.exec("delete from record_versions where store = 'zeta'; delete from records where store = 'zeta'");
  await rotateDataKey(2);
  keys.forget("default", "user-tokens");
  const store = await keys.open("default", "user-tokens");
  const row = raw
    .prepare("select record_id, body from record_versions where store = 'user-tokens' and version = 1 limit 1")
    .get() as { record_id: Buffer; body: Buffer };
  const sealed = store?.open(row.record_id, 1, row.body);
  if (!store || !sealed) throw new Error("The record opens.");
  raw
    .prepare("update record_versions set body = ?, key_version = 2 where record_id = ? and version = 1")
    .run(store.seal(row.record_id, 1, sealed), row.record_id);
  await addStore("default", "another");
  await records.commit([writeOf(refTo(randomBytes(32), "default", "another"), 1, randomBytes(99))]);
  await directory.destroyStore("default", "another", 9);
}

describe("a backup that was cut off", () => {
  test("anywhere is what it would have been, when nothing changed since", async () => {
    const world = await openWorld();
    const folder = await freshFolder();
    await backUp(world, join(folder, "whole"));
    const bytes = await readFile(join(folder, "whole", "records.jsonl"));
    const expected = await contentsOfDatabase(world);
    expect(await backupContents(join(folder, "whole"))).toEqual(expected);
    for (const [index, cut] of cutsOf(bytes).entries()) {
      const directory = await interruptedAt(folder, `cut-${index}`, bytes.subarray(0, cut));
      const { records, kept } = await backUp(world, directory);
      expect(await backupContents(directory), `cut at ${cut}`).toEqual(expected);
      // What was whole is not written again: a group that ends before the cut is kept.
      expect(records).toBe(5);
      const written = bytes.subarray(0, cut).toString("latin1").split("\n").slice(0, -1);
      const whole = written.join("\n").split('{"record"').slice(1);
      const complete = whole.filter((text) => {
        const announced = (/"versions":\[(.*)\]/.exec(text)?.[1] ?? "").split('"size"').length - 1;
        return text.split('{"body"').length - 1 === announced;
      });
      expect(kept, `cut at ${cut}`).toBe(complete.length);
    }
  });

  test("anywhere is of the database as it is then, when all kinds of things changed since", async () => {
    const folder = await freshFolder();
    const world = await openWorld();
    await backUp(world, join(folder, "whole"));
    const [bytes, keys] = await Promise.all(
      ["records.jsonl", "keys.jsonl"].map((name) => readFile(join(folder, "whole", name))),
    );
    await change(world);
    const expected = await contentsOfDatabase(world);
    for (const [index, cut] of cutsOf(bytes ?? Buffer.alloc(0)).entries()) {
      const directory = await interruptedAt(folder, `cut-${index}`, bytes?.subarray(0, cut) ?? Buffer.alloc(0), keys);
      await backUp(world, directory);
      expect(await backupContents(directory), `cut at ${cut}`).toEqual(expected);
    }
  });

  test("many times, while things changed, is of the database as it is in the end", async () => {
    const folder = await freshFolder();
    const world = await openWorld();
    await backUp(world, join(folder, "first"));
    let bytes = await readFile(join(folder, "first", "records.jsonl"));
    let runs = 0;
    for (let round = 0; round < 12; round++) {
      // Somewhere behind the middle, so that parts of several runs stay.
      const cut = Math.floor(bytes.length * (0.5 + (round % 5) / 10));
      await interruptedAt(folder, `often-${round}`, bytes.subarray(0, cut));
      const id = randomBytes(32);
      await world.records.commit([writeOf(refTo(id), 1, randomBytes(50 + round))]);
      await world.records.commit([writeOf(refTo(world.ids[1] ?? id), 3 + round, randomBytes(60))]);
      await backUp(world, join(folder, `often-${round}`));
      expect(await backupContents(join(folder, `often-${round}`))).toEqual(await contentsOfDatabase(world));
      bytes = await readFile(join(folder, `often-${round}`, "records.jsonl"));
      runs = Math.max(runs, bytes.toString("latin1").split('{"run"').length - 1);
    }
    expect(runs).toBeGreaterThan(3);
  });

  test("in a way that left damage behind keeps what comes before the damage", async () => {
    const folder = await freshFolder();
    const world = await openWorld();
    await backUp(world, join(folder, "whole"));
    const bytes = await readFile(join(folder, "whole", "records.jsonl"));
    const expected = await contentsOfDatabase(world);
    for (let offset = 0; offset < bytes.length; offset += 101) {
      // As a loss of power leaves a file: a part was never written.
      const holed = Buffer.from(bytes);
      holed.fill(0, offset, Math.min(offset + 300, bytes.length));
      const directory = await interruptedAt(folder, `hole-${offset}`, holed);
      await backUp(world, directory);
      expect(await backupContents(directory), `hole at ${offset}`).toEqual(expected);
    }
  });
});

test("what is longer than what takes its place is cut off", async () => {
  const folder = await freshFolder();
  const world = await openWorld();
  await backUp(world, join(folder, "whole"));
  const bytes = await readFile(join(folder, "whole", "records.jsonl"));
  const directory = await interruptedAt(folder, "long", Buffer.concat([bytes.subarray(0, 200), Buffer.alloc(50_000)]));
  await writeFile(join(directory, "keys.jsonl.partial"), Buffer.alloc(50_000));
  await backUp(world, directory);
  expect(await backupContents(directory)).toEqual(await contentsOfDatabase(world));
});

test("a backup that was interrupted 64 times is given up, in words", async () => {
  const folder = await freshFolder();
  const world = await openWorld();
  let directory = join(folder, "0");
  await backUp(world, directory);
  for (let run = 1; run < 64; run++) {
    const bytes = await readFile(join(directory, "records.jsonl"));
    directory = await interruptedAt(folder, String(run), bytes.subarray(0, bytes.indexOf('{"projects"')));
    await world.records.commit([writeOf(refTo(randomBytes(32)), 1, randomBytes(80))]);
    await backUp(world, directory);
  }
  expect(await backupContents(directory)).toEqual(await contentsOfDatabase(world));
  const bytes = await readFile(join(directory, "records.jsonl"));
  directory = await interruptedAt(folder, "last", bytes.subarray(0, -1));
  await expect(backUp(world, directory)).rejects.toThrow("was interrupted 64 times. Delete it and begin anew");
});

describe("the directory", () => {
  test("and its files are their owner's alone, and nothing else is left in it", async () => {
    const folder = await freshFolder();
    const directory = join(folder, "above", "backup");
    await backUp(await openWorld(), directory);
    expect((await stat(directory)).mode & 0o777).toBe(0o700);
    expect((await readdir(directory)).sort()).toEqual(["keys.jsonl", "records.jsonl"]);
    for (const name of await readdir(directory)) expect((await stat(join(directory, name))).mode & 0o777).toBe(0o600);
  });

  test("of a finished backup, of another one at work, or of other things is refused", async () => {
    const folder = await freshFolder();
    const world = await openWorld();
    await backUp(world, join(folder, "whole"));
    await expect(backUp(world, join(folder, "whole"))).rejects.toThrow("holds a finished backup. Choose another");
    const atWork = await openBackupDirectory(join(folder, "busy"));
    await expect(backUp(world, join(folder, "busy"))).rejects.toThrow("Another backup is being written");
    await atWork.close();
    await backUp(world, join(folder, "busy"));
    await expect(backUp(world, world.folder)).rejects.toThrow("holds other things");
  });

  test("with a finished file of keys alone is no finished backup", async () => {
    const folder = await freshFolder();
    const world = await openWorld();
    await backUp(world, join(folder, "whole"));
    const keys = await readFile(join(folder, "whole", "keys.jsonl"));
    const directory = await interruptedAt(folder, "half", Buffer.alloc(0), keys);
    await expect(openBackup({ directory })).rejects.toThrow(/There is no .*records\.jsonl/);
  });

  test("whose partial file is of another version of the program is begun anew", async () => {
    const folder = await freshFolder();
    const world = await openWorld();
    await backUp(world, join(folder, "whole"));
    const bytes = await readFile(join(folder, "whole", "records.jsonl"), "latin1");
    const other = Buffer.from(bytes.replace(/"schema":"\w+"/, '"schema":"0001_foundation"'), "latin1");
    const directory = await interruptedAt(folder, "other", other);
    expect((await backUp(world, directory)).kept).toBe(0);
    await truncate(join(directory, "keys.jsonl"), 10);
    await expect(openBackup({ directory })).rejects.toThrow("cut off");
  });
});
