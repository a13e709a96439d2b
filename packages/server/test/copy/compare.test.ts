/** Whatever is not the same in source and target is found, and named, and the target is not served; spec/envelope.md § Copying. */

import { randomBytes } from "node:crypto";

import { describe, expect, test } from "vitest";

import { compareDatabases } from "../../src/copy/compare.js";
import { openForServing } from "../../src/database-place.js";
import { openSqliteSnapshot } from "../../src/storage/sqlite.js";
import { refTo, writeOf } from "../envelope/world.js";
import { KINDS, copyHalf, freshDirectory, openWorld, runCopy, type Side } from "./world.js";

async function differencesOf(source: Side, target: Side): Promise<string[]> {
  const found: string[] = [];
  const [one, other] = [await source.place.openSnapshot(), await target.place.openSnapshot()];
  const { differences } = await compareDatabases({
    source: one,
    target: other,
    onDifference: (what) => found.push(what),
  });
  await one.close();
  await other.close();
  expect(differences).toBe(found.length);
  return found;
}

const RECORD = "Record [0-9a-f]{64} of store user-tokens in project default";
const MANY = "The records of store default/user-tokens differ";

/** What is done to the target, and all the sentences that say so. */
const DAMAGE: readonly (readonly [what: string, sql: string, ...sentences: RegExp[]])[] = [
  [
    "a flipped bit of a body",
    "update record_versions set body = flip(body) where version = 3",
    new RegExp(`^${RECORD} is another one in the target\\.$`),
    new RegExp(`^${MANY}: as many in source and target \\(4\\), but not the same\\.$`),
  ],
  [
    "a flipped bit of a tag",
    "update records set tag = flip(tag) where version = 3",
    new RegExp(`^${RECORD} is another one in the target\\.$`),
    new RegExp(`^${MANY}: as many`),
  ],
  [
    "a time of writing",
    "update record_versions set created_at = created_at + 1 where version = 3",
    new RegExp(`^${RECORD} is another one in the target\\.$`),
    new RegExp(`^${MANY}: as many`),
  ],
  [
    "a missing version",
    "delete from record_versions where store = 'user-tokens' and version = 2",
    new RegExp(`^${RECORD} is another one in the target\\.$`),
    new RegExp(`^${MANY}: as many`),
  ],
  [
    "a missing record",
    "delete from record_versions where version = 3; delete from records where version = 3",
    new RegExp(`^${RECORD} is missing in the target\\.$`),
    new RegExp(`^${MANY}: 4 in the source, 3 in the target\\.$`),
  ],
  [
    "an extra record",
    "insert into records select project, store, flip(record_id), version, protected, active, tag, kept_from from records where version = 3",
    new RegExp(`^${RECORD} is in the target only\\.$`),
    new RegExp(`^${MANY}: 4 in the source, 5 in the target\\.$`),
  ],
  [
    "an extra record of a store that is not there",
    "insert into records select project, 'none', record_id, version, protected, active, tag, kept_from from records where version = 3",
    /^Record [0-9a-f]{64} of store none in project default is in the target only\.$/,
    /^The records of store default\/none differ: 0 in the source, 1 in the target\.$/,
  ],
  [
    "a version of no record",
    "insert into record_versions select project, store, flip(record_id), version, key_version, body, created_at, expires_at from record_versions where version = 3",
    /^The target has 1 versions that are of no record, or that its record does not keep\.$/,
  ],
  [
    "a version beyond the current one",
    "insert into record_versions select project, store, record_id, 9, key_version, body, created_at, expires_at from record_versions where version = 3",
    /^The target has 1 versions/,
  ],
  [
    "a changed secret check",
    "update secret_checks set digest = flip(digest)",
    /^The rows of secret_checks of store default\/zeta differ: as many in source and target \(1\), but not the same\.$/,
  ],
  [
    "a wrapped key",
    "update store_keys set wrapped = flip(wrapped) where store = 'zeta' and purpose = 'index'",
    /^The rows of store_keys of store default\/zeta differ: as many in source and target \(2\)/,
  ],
  [
    "a missing token",
    "delete from tokens where id = 'a'",
    /^The rows of tokens differ: 3 in the source, 2 in the target/,
  ],
  ["who minted a token", "update tokens set minted_by = null where id = 'a'", /^The rows of tokens differ: as many/],
  [
    "an extra grant",
    "insert into grants values ('default', 'token', 'a', 7, 7, '*', 'manage', null)",
    /^The rows of grants differ: 3 in the source, 4 in the target/,
  ],
  [
    "a changed setting",
    "update settings set value = 'x' where name = 'something'",
    /^The rows of settings differ: as many/,
  ],
  [
    "a re-encryption that is forgotten",
    "delete from reencryptions",
    /^The rows of reencryptions of store default\/turning differ: 1 in the source, 0 in the target/,
  ],
  [
    "a retired master key that is forgotten",
    "delete from retired_master_keys",
    /^The rows of retired_master_keys differ: 1 in the source, 0 in the target/,
  ],
  [
    "a store that is open again",
    "update stores set destroyed_at = null where id = 'gone'",
    /^The rows of stores differ/,
  ],
];

describe.each(KINDS)("of a target on %s", (name, fresh) => {
  // A database more takes PostgreSQL seconds, and what compares is the same.
  const damage = name === "SQLite" ? DAMAGE : DAMAGE.slice(0, 6);

  test("everything that is not the same is found and named", { timeout: 120_000 }, async () => {
    const { source } = await openWorld();
    const sound = await fresh();
    await copyHalf(source, sound);
    expect(await differencesOf(source, sound)).toEqual([]);
    for (const [what, sql, ...sentences] of damage) {
      const target = await sound.clone();
      await target.exec(sql);
      expect(await differencesOf(source, target), what).toEqual(
        sentences.map((one) => expect.stringMatching(one) as string),
      );
    }
  });

  test("a flipped bit ends the command with 1, and the target is not served, as often as it is run", async () => {
    const { source, keyringFile: keyring } = await openWorld();
    const target = await fresh();
    await copyHalf(source, target);
    await target.exec("update record_versions set body = flip(body) where version = 3");
    for (let run = 0; run < 2; run++) {
      const { code, output } = await runCopy(source, target, { keyring });
      expect(code).toBe(1);
      expect(output).toMatch(
        /Record [0-9a-f]{64} of store user-tokens in project default is another one in the target\./,
      );
      expect(output).toContain("The two are not the same, and no server serves the target.");
      expect(output).not.toContain("opens");
      await expect(openForServing(target.place)).rejects.toThrow("was not found to be a true copy");
    }
  });

  test("all is well again when the next run mends what it can see", async () => {
    const { source, keyringFile: keyring } = await openWorld();
    const target = await fresh();
    await copyHalf(source, target);
    await target.exec(
      "delete from record_versions where version = 3; delete from records where version = 2; delete from tokens; update settings set value = 'x' where name = 'something'",
    );
    const { code, output } = await runCopy(source, target, { keyring });
    expect(output).toContain("everything opens");
    expect(code).toBe(0);
    expect(await target.contents()).toEqual(await source.contents());
  });
});

test("of many records that differ ten are named, and all are counted", async () => {
  const { source } = await openWorld();
  const target = await freshDirectory();
  await copyHalf(source, target);
  await target.exec("delete from records where store = 'turning'; delete from record_versions where store = 'turning'");
  const found = await differencesOf(source, target);
  expect(found.filter((one) => one.endsWith("is missing in the target."))).toHaveLength(10);
  expect(found.slice(10)).toEqual([
    "So are 290 more records of store default/turning.",
    "The records of store default/turning differ: 300 in the source, 0 in the target.",
  ]);
});

test("what is written to the source while it is copied is found, and copied by the next run", async () => {
  const { records, file, keyringFile: keyring, source } = await openWorld();
  const target = await freshDirectory();
  const before = await openSqliteSnapshot(file);
  await records.commit([writeOf(refTo(randomBytes(32)), 1, randomBytes(99))]);
  await copyHalf(source, target, before);
  const [after, copied] = [await openSqliteSnapshot(file), await target.place.openSnapshot()];
  const found: string[] = [];
  await compareDatabases({ source: after, target: copied, onDifference: (what) => found.push(what) });
  expect(found).toEqual([
    expect.stringContaining("is missing in the target"),
    expect.stringContaining("differ: 5 in the source, 4 in the target"),
  ]);
  for (const snapshot of [after, copied]) await snapshot.close();
  const more = randomBytes(32);
  await source.exec(`insert into records values ('default', 'zeta', x'${more.toString("hex")}', 1, 0, 1, null, 1)`);
  const { output } = await runCopy(source, target, { keyring });
  expect(output).toContain("Copied 3 stores, 306 records");
  expect(output).toContain("Of these, 305 records were there");
  expect(output).toContain(
    `Record ${more.toString("hex")} of store zeta in project default, version 1: it is missing.`,
  );
});

test("what did not open in the source does not open in the copy, is named, and does not keep it from being served", async () => {
  const { source, keyringFile: keyring } = await openWorld();
  await source.exec("update record_versions set body = flip(body) where version = 3");
  const target = await freshDirectory();
  const { code, output } = await runCopy(source, target, { keyring });
  expect(code).toBe(1);
  expect(output).toMatch(/, version 3: it does not open\.\n/);
  expect(output).toContain("1 damaged, named above, and in the source as well.");
  expect(output).toContain("The copy is true all the same.");
  await (await openForServing(target.place)).close();
});
