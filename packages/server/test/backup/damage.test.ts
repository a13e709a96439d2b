/** A backup's file that is not as it was written is refused, and the line is named; spec/envelope.md § Backups. */

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { BackupError, DamagedBackupError } from "../../src/backup/errors.js";
import { encodeLine } from "../../src/backup/format.js";
import { openBackup } from "../../src/backup/open-backup.js";
import { backUp, contentsOf, freshFolder, openWorld } from "./world.js";

const RECORDS = "records.jsonl";
const KEYS = "keys.jsonl";

async function filesOf(directory: string): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for (const name of [RECORDS, KEYS]) files.set(name, await readFile(join(directory, name)));
  return files;
}

/** What opening these files, and reading all that is in them, throws; null when nothing. */
async function refusal(folder: string, files: ReadonlyMap<string, Buffer>): Promise<unknown> {
  const directory = join(folder, "damaged");
  await mkdir(directory, { recursive: true });
  for (const [name, bytes] of files) await writeFile(join(directory, name), bytes);
  try {
    const backup = await openBackup({ directory });
    await contentsOf(backup).finally(() => backup.close());
    return null;
  } catch (error) {
    return error;
  }
}

async function makeBackup() {
  const world = await openWorld();
  const folder = await freshFolder();
  await backUp(world, join(folder, "good"));
  return { folder, files: await filesOf(join(folder, "good")) };
}

describe.each([RECORDS, KEYS])("%s", (name) => {
  test("with any byte changed is refused by its line", async () => {
    const { folder, files } = await makeBackup();
    const good = files.get(name) ?? Buffer.alloc(0);
    expect(await refusal(folder, files)).toBeNull();
    // A step that no line's length divides comes to every part of a line.
    for (let offset = 0; offset < good.length; offset += 13) {
      const bytes = Buffer.from(good);
      bytes[offset] = (bytes[offset] ?? 0) ^ 1;
      const error = await refusal(folder, new Map([...files, [name, bytes]]));
      const line = good.subarray(0, offset).toString("latin1").split("\n").length;
      expect(error, `offset ${offset}`).toBeInstanceOf(DamagedBackupError);
      expect((error as Error).message).toContain(`${name} is damaged at line ${line}:`);
    }
  });

  test("with a line cut, missing, doubled or moved is refused", async () => {
    const { folder, files } = await makeBackup();
    const lines = (files.get(name) ?? Buffer.alloc(0)).toString().split(/(?<=\n)/);
    const withLines = (changed: readonly string[]) => new Map([...files, [name, Buffer.from(changed.join(""))]]);
    expect(await refusal(folder, withLines(lines))).toBeNull();
    for (const [index, line] of lines.entries()) {
      const cut = await refusal(folder, withLines([...lines.slice(0, index), line.slice(0, -1)]));
      expect((cut as Error).message).toContain(`damaged at line ${index + 1}: it is cut off`);
      if (index > 0) {
        const short = await refusal(folder, withLines(lines.slice(0, index)));
        expect((short as Error).message).toContain(`is not finished: it ends after line ${index}`);
      }
      for (const changed of [
        lines.toSpliced(index, 1),
        lines.toSpliced(index, 0, line),
        index > 0 ? lines.toSpliced(index - 1, 2, line, lines[index - 1] ?? "") : [...lines, line],
      ]) {
        expect(await refusal(folder, withLines(changed)), `line ${index + 1}`).toBeInstanceOf(BackupError);
      }
    }
  });

  test("of another backup is refused beside its fellow", async () => {
    const one = await makeBackup();
    const two = await makeBackup();
    const mixed = new Map([...one.files, [name, two.files.get(name) ?? Buffer.alloc(0)]]);
    expect(String(await refusal(one.folder, mixed))).toContain("are not of one backup");
  });
});

test("what is no backup says what it is instead", async () => {
  const folder = await freshFolder();
  await expect(openBackup({ directory: folder })).rejects.toThrow(/There is no .*keys\.jsonl: name the directory/);
  const { files } = await makeBackup();
  const swapped = new Map([
    [RECORDS, files.get(KEYS) ?? Buffer.alloc(0)],
    [KEYS, files.get(RECORDS) ?? Buffer.alloc(0)],
  ]);
  expect(String(await refusal(folder, swapped))).toContain("is a file of records, and one of keys is needed");
  for (const header of [
    { format: "tacenda-backup/2", content: "keys", schema: "0001_foundation", begunAt: "2026-01-01T00:00:00Z" },
    { format: "tacenda-backup/1", content: "keys", schema: "9999_future", begunAt: "2026-01-01T00:00:00Z" },
  ]) {
    const newer = new Map([...files, [KEYS, encodeLine("header", JSON.stringify(header))]]);
    expect(String(await refusal(folder, newer))).toContain("was made by a newer version");
  }
});
