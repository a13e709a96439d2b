/** What a copy refuses, before it has changed anything, and in words that hold no password; spec/envelope.md § Copying. */

import { existsSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { inspect } from "node:util";

import pg from "pg";
import { describe, expect, onTestFinished, test, vi } from "vitest";

import { reopen } from "../../src/cli/reopen.js";
import { CopyError } from "../../src/copy/errors.js";
import { openDataSnapshot } from "../../src/data-directory.js";
import { openForServing } from "../../src/database-place.js";
import { openKeyring } from "../../src/envelope/providers/local-keyring.js";
import { startServer } from "../../src/server.js";
import { InvalidOptionError } from "../../src/startup-error.js";
import { backUp, freshFolder, restore } from "../backup/world.js";
import {
  KINDS,
  copyHalf,
  freshDirectory,
  freshPostgres,
  hasPostgres,
  isThere,
  openWorld,
  runCopy,
  sqliteSide,
} from "./world.js";

// Databases are made and copied in each of these tests, on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 });

describe.each(KINDS)("a target on %s is refused, and stays as it is,", (_, fresh) => {
  test("when it holds anything", async () => {
    const { source, keyringFile: keyring } = await openWorld();
    const target = await fresh();
    await runCopy(source, target, { keyring });
    await target.exec("delete from tokens where id = 'a'");
    const before = await target.contents();
    await expect(runCopy(source, target, { keyring })).rejects.toThrow(
      `There is something in ${target.place.name} already`,
    );
    expect(await target.contents()).toEqual(before);
  });

  test("when another database is half copied there, or a backup half restored", async () => {
    const { source, keyringFile: keyring } = await openWorld();
    const target = await fresh();
    await copyHalf(source, target);
    await source.exec("update projects set created_at = 2 where id = 'default'");
    const before = await target.contents();
    await expect(runCopy(source, target, { keyring })).rejects.toThrow(
      `A copy of another database is half done in ${target.place.name}`,
    );
    await target.exec(`update settings set value = '{"sequence":1,"rows":7}' where name = 'restore'`);
    await expect(runCopy(source, target, { keyring })).rejects.toThrow(
      `A backup is half restored in ${target.place.name}`,
    );
    const [mark, ...others] = before.filter((row) => row.includes('"restore"'));
    expect(others).toEqual([]);
    expect((await target.contents()).filter((row) => !row.includes('"restore"'))).toEqual(
      before.filter((row) => row !== mark),
    );
  });

  test("for serving, backups and restores while it is half copied", async () => {
    const world = await openWorld();
    const target = await fresh();
    await copyHalf(world.source, target);
    const isDirectory = existsSync(target.text);
    const dataDir = isDirectory ? target.text : await freshFolder();
    const databaseUrl = isDirectory ? undefined : target.text;
    const database = databaseUrl === undefined ? {} : { databaseUrl };
    await expect(startServer({ dataDir, port: 0, ...database })).rejects.toThrow("is half copied");
    await expect(openDataSnapshot(dataDir, { databaseUrl })).rejects.toThrow("is half copied");
    await expect(runCopy(target, await freshDirectory(), { keyring: world.keyringFile })).rejects.toThrow(
      "is half copied",
    );
    if (!isDirectory) return;
    const directory = join(await freshFolder(), "backup");
    await backUp(world, directory);
    await expect(restore({ directory, dataDir, provider: world.keyring })).rejects.toThrow(
      `A copy is half done in ${target.place.name}: finish it`,
    );
  });
});

describe("a source is refused", () => {
  test("while a server, or anything else, runs on its data directory, and so is a target", async () => {
    const { keyringFile: keyring, source } = await openWorld();
    const folder = await freshFolder();
    const served = sqliteSide(join(folder, "served"));
    const server = await startServer({ dataDir: served.text, port: 0 });
    const target = await freshDirectory();
    await expect(runCopy(served, target, { keyring })).rejects.toThrow(
      `Another Tacenda server, or a command, uses ${served.place.name}`,
    );
    await expect(runCopy(source, served, { keyring })).rejects.toThrow(`uses ${served.place.name}`);
    expect(isThere(target)).toBe(false);
    await server.close();
  });

  test("where there is none, and nothing is made there", async () => {
    const { keyringFile: keyring } = await openWorld();
    const nothing = await freshDirectory();
    const empty = sqliteSide(await freshFolder());
    const target = await freshDirectory();
    for (const side of [nothing, empty]) {
      await expect(runCopy(side, target, { keyring })).rejects.toThrow(`There is no database in ${side.text}`);
    }
    expect(existsSync(nothing.text)).toBe(false);
    expect(existsSync(join(empty.text, "lock"))).toBe(false);
    expect(existsSync(target.text)).toBe(false);
  });

  test("of an older program, which stays as it is", async () => {
    const { source, keyringFile: keyring } = await openWorld();
    await source.exec("delete from kysely_migration where name <> '0001_foundation'");
    const target = await freshDirectory();
    await expect(runCopy(source, target, { keyring })).rejects.toThrow(
      `Of ${source.place.name}: This database was made by an older version of Tacenda`,
    );
    expect(existsSync(target.text)).toBe(false);
  });

  test("that is the target", async () => {
    const { source, keyringFile: keyring } = await openWorld();
    await expect(runCopy(source, sqliteSide(join(source.text, ".")), { keyring })).rejects.toThrow(CopyError);
  });

  test("whose keys do not open, before anything is made", async () => {
    const { source, keyringFile: keyring } = await openWorld();
    const target = await freshDirectory();
    const folder = await freshFolder();
    const other = await openKeyring(join(folder, "keyring.json"), { create: true });
    await expect(runCopy(source, target, { keyring: join(folder, "keyring.json") })).rejects.toThrow(
      `This is another keyring: it is ${other.id}`,
    );
    await expect(runCopy(source, target, { keyring: join(folder, "none.json") })).rejects.toThrow(
      "There is no keyring at",
    );
    await source.exec("update store_keys set wrapped = flip(wrapped) where store = 'zeta' and purpose = 'index'");
    await expect(runCopy(source, target, { keyring })).rejects.toThrow(
      "Nothing was copied, for the index key 1 of store zeta in project default",
    );
    expect(existsSync(target.text)).toBe(false);
  });

  test.runIf(hasPostgres)(
    "on PostgreSQL while others are connected, unless they are said to be no servers",
    async () => {
      const { source, keyringFile: keyring } = await openWorld();
      const shared = await freshPostgres();
      await runCopy(source, shared, { keyring });
      const client = new pg.Client({ connectionString: shared.text, application_name: "psql" });
      await client.connect();
      onTestFinished(() => client.end());
      const target = await freshDirectory();
      await expect(runCopy(shared, target, { keyring })).rejects.toThrow(
        /^1 other connection is open to the PostgreSQL database .*: psql\. .*--ignore-connections\.$/,
      );
      expect(existsSync(target.text)).toBe(false);
      expect((await runCopy(shared, target, { keyring, ignoreConnections: true })).code).toBe(0);
      await client.end();
      expect((await runCopy(shared, await freshDirectory(), { keyring })).code).toBe(0);
    },
  );
});

describe("--from and --to", () => {
  test("that are neither a directory nor a URL of PostgreSQL are refused, and no password is shown", async () => {
    const { source, keyringFile: keyring } = await openWorld();
    for (const [text, sentence] of [
      [
        "mysql://me:s3cret@host/db",
        "TACENDA_COPY_TO (or --to) must be a data directory, or a URL that begins with postgres://.",
      ],
      ["postgres://me:s3c@ret@host/db", "TACENDA_COPY_TO (or --to) must be of the form postgres://"],
      [
        "postgres://me:s3cret@host/db?sslmode=s3cret",
        "TACENDA_COPY_TO (or --to) is not valid: its sslmode must be one of",
      ],
      ["postgres://me:s3cret@127.0.0.1:1/db", "There is no connection to the PostgreSQL database db at 127.0.0.1:1"],
      ["", "TACENDA_COPY_TO (or --to) must be a data directory"],
    ] as const) {
      const refused: unknown = await runCopy(source, { ...source, text }, { keyring }).catch((error: unknown) => error);
      expect(refused).toBeInstanceOf(Error);
      expect(String(refused)).toContain(sentence);
      expect(inspect(refused, { depth: 9, showHidden: true })).not.toMatch(/s3c|ret@/);
    }
    const backwards = runCopy({ ...source, text: "sqlite://x" }, source, { keyring });
    await expect(backwards).rejects.toThrow(InvalidOptionError);
    await expect(backwards).rejects.toThrow("TACENDA_COPY_FROM (or --from)");
  });

  test("say where the keyring is, when it is not named: in the source, else in the target, else in --data-dir", async () => {
    const { source, keyringFile } = await openWorld();
    const target = await freshDirectory();
    await expect(runCopy(source, target, {})).rejects.toThrow(
      `There is no keyring at ${join(source.text, "keyring.json")}`,
    );
    await copyFile(keyringFile, join(source.text, "keyring.json"));
    expect((await runCopy(source, target, {})).code).toBe(0);
    if (!hasPostgres) return;
    const [one, other] = [await freshPostgres(), await freshPostgres()];
    await runCopy(source, one, {});
    expect((await runCopy(one, other, { dataDir: source.text })).code).toBe(0);
    await expect(runCopy(other, await freshDirectory(), { dataDir: source.text })).rejects.toThrow(
      /no keyring at .*new/,
    );
  });
});

describe.each(KINDS)("a source on %s", (_, fresh) => {
  test("that was closed serves nobody, until it is opened again, and can be copied and looked at", async () => {
    const { source: origin, keyringFile } = await openWorld();
    const source = await fresh();
    await runCopy(origin, source, { keyring: keyringFile });
    const expected = await source.contents();
    const target = await freshDirectory();
    const { output, code } = await runCopy(source, target, { keyring: keyringFile, closeSource: true });
    expect(code).toBe(0);
    expect(output).toContain(`No server starts on ${source.place.name} any more`);
    const isDirectory = existsSync(source.text);
    const where = isDirectory ? { dataDir: source.text } : { dataDir: await freshFolder(), databaseUrl: source.text };
    await expect(startServer({ ...where, keyringFile, port: 0 })).rejects.toThrow(
      new RegExp(`was closed at 20\\d\\d-.*Z: it was copied to ${target.place.name}\\. Serve that one`),
    );
    // Run again it is told apart from what is not a copy of this one.
    await expect(runCopy(source, target, { keyring: keyringFile, closeSource: true })).rejects.toThrow(
      `This copy is finished, and nothing was done: serve ${target.place.name}, with the same`,
    );
    await target.exec("update projects set created_at = created_at + 1 where id = 'default'");
    await expect(runCopy(source, target, { keyring: keyringFile })).rejects.toThrow("There is something in ");
    await target.exec("update projects set created_at = created_at - 1 where id = 'default'");
    // Nothing of that is in the copy.
    expect(await target.contents()).toEqual(expected);
    await (await openForServing(target.place)).close();
    const again = await freshDirectory();
    expect((await runCopy(source, again, { keyring: keyringFile })).code).toBe(0);
    expect(await again.contents()).toEqual(expected);

    await reopen(where);
    await (await startServer({ ...where, keyringFile, port: 0 })).close();
    await reopen(where);
  });
});
