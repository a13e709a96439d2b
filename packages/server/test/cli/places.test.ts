/** What verify, backup and restore say names the database that they meant: TACENDA_DATABASE_URL may be set, and forgotten. */

import { join } from "node:path";

import { describe, expect, test, vi } from "vitest";

import { backup } from "../../src/cli/backup.js";
import { restore } from "../../src/cli/restore.js";
import { verify } from "../../src/cli/verify.js";
import { freshFolder } from "../backup/world.js";
import { KINDS, openWorld, runCopy, type Side } from "../copy/world.js";

// Databases are made and copied in each of these tests, on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 });

/** What the command writes. */
async function outputOf(command: () => Promise<unknown>): Promise<string> {
  let output = "";
  const spy = vi.spyOn(process.stdout, "write").mockImplementation((text: unknown) => {
    output += String(text);
    return true;
  });
  try {
    await command();
    return output;
  } finally {
    spy.mockRestore();
  }
}

/** As flags name it: always with a data directory, which is not where the database of a URL is. */
async function flagsOf({ text }: Side, keyring: string) {
  return text.startsWith("postgres")
    ? { dataDir: join(await freshFolder(), "trial"), databaseUrl: text, keyring }
    : { dataDir: text, keyring };
}

describe.each(KINDS)("a database on %s", (kind, fresh) => {
  test("is named in the results of verify, backup and restore, and in the refusal of what is not empty", async () => {
    const { source, keyringFile } = await openWorld();
    const [one, other] = [await fresh(), await fresh()];
    await runCopy(source, one, { keyring: keyringFile });
    const { name } = one.place;
    expect(name).toMatch(kind === "SQLite" ? /^the database in \// : /^the PostgreSQL database \S+ at \S+:\d+$/);
    const flags = await flagsOf(one, keyringFile);
    const target = join(await freshFolder(), "backup");

    expect(await outputOf(() => verify(flags))).toBe(
      `Checked ${name}: 3 stores, 7 wrapped keys, 305 records, 306 versions: everything opens.\n`,
    );
    expect(await outputOf(() => backup(target, flags))).toMatch(
      `Backed up 3 stores, 305 records, 306 versions of ${name}, as of 2`,
    );
    expect(await outputOf(() => verify({ ...flags, backup: target }))).toContain(`Checked the backup in ${target}: 3 `);
    const into = await flagsOf(other, keyringFile);
    expect(await outputOf(() => restore(target, into))).toMatch(`, to ${other.place.name}\n`);
    await expect(restore(target, flags)).rejects.toThrow(`There is something in ${name} already: restore into`);
    await other.exec(`insert into settings (name, value) values ('restore', '{"copyOf":1,"run":"a"}')`);
    await expect(restore(target, into)).rejects.toThrow(`A copy is half done in ${other.place.name}: finish it`);
    await other.exec(`update settings set value = '{"sequence":1,"rows":7}' where name = 'restore'`);
    await expect(restore(target, into)).rejects.toThrow(`is half restored in ${other.place.name}: finish that`);
  });
});
