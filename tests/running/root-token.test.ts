/** Resetting the root token from outside, while servers run and while none does; docs/running.md § Root token. */

import { existsSync } from "node:fs";
import { readFile, rename, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { TacendaError } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import BetterSqlite3 from "better-sqlite3";
import { beforeAll, describe, expect, test } from "vitest";

import { DATABASES, freshPlace, sharedCluster, type Place } from "../reliability/databases.ts";
import { freshFolder, runCommand, spawnServer } from "../server-process.ts";

const GIVEN = "root-token-of-the-environment-0123456789";
/** What the documentation says: within seconds. */
const SOON_MILLISECONDS = 5_000;

const readToken = async (file: string) => (await readFile(file, "utf8")).trim();

const reset = ({ dataDir, env }: Place, flags: string[] = [], more: Record<string, string> = {}) =>
  runCommand(["reset-root-token", "--data-dir", dataDir, ...flags], { env: { ...env, ...more } });

async function isRoot(url: string, token: string): Promise<boolean> {
  try {
    await new TacendaAdmin({ url, token }).projects.list();
    return true;
  } catch (error) {
    if (TacendaError.is(error, "token_refused")) return false;
    throw error;
  }
}

/** How long it takes until the server says so, in milliseconds. */
async function becomes(url: string, token: string, expected: boolean): Promise<number> {
  const begun = performance.now();
  while ((await isRoot(url, token)) !== expected) {
    const passed = performance.now() - begun;
    if (passed > 2 * SOON_MILLISECONDS) return passed;
    await sleep(50);
  }
  return performance.now() - begun;
}

// Outside the time of the first test.
beforeAll(async () => {
  await sharedCluster();
}, 120_000);

describe.each(DATABASES)("on %s", { timeout: 120_000 }, (database) => {
  test("a running server takes the new one and refuses the old, and so does the next start", async () => {
    const place = await freshPlace(database);
    const file = join(place.dataDir, "root-token");
    const server = await spawnServer(place);
    const old = await readToken(file);
    expect(await isRoot(server.url, old)).toBe(true);

    const { code, output } = await reset(place);
    expect([code, output]).toEqual([0, expect.stringContaining(`is now the one in ${file}`) as string]);
    const token = await readToken(file);
    expect(output).not.toContain(token);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(existsSync(`${file}.new`)).toBe(false);
    expect(await becomes(server.url, token, true)).toBeLessThan(SOON_MILLISECONDS);
    expect(await becomes(server.url, old, false)).toBeLessThan(SOON_MILLISECONDS);

    await server.end("SIGTERM");
    expect(server.output()).toContain("the root token was replaced");
    expect(server.output()).not.toContain("tct_");
    expect((await reset(place)).code).toBe(0);
    const last = await readToken(file);
    const next = await spawnServer(place);
    expect(await Promise.all([old, token, last].map((one) => isRoot(next.url, one)))).toEqual([false, false, true]);
  });

  test("tokens that the old one minted go on", async () => {
    const place = await freshPlace(database);
    const server = await spawnServer(place);
    const admin = new TacendaAdmin({
      url: server.url,
      token: await readToken(join(place.dataDir, "root-token")),
    });
    await admin.stores.create("s");
    const minted = await admin.tokens.create("t", [{ stores: ["*"], permissions: ["manage"] }]);
    expect((await reset(place)).code).toBe(0);
    await sleep(1_100);
    const stores = await new TacendaAdmin({ url: server.url, token: minted.token }).stores.list();
    expect(stores.map(({ id }) => id)).toEqual(["s"]);
  });

  test("it says what wins over it, and where an earlier one still lies", async () => {
    const place = await freshPlace(database);
    const server = await spawnServer({ ...place, rootToken: GIVEN });
    const file = join(place.dataDir, "..", "elsewhere");
    const { code, output } = await reset(place, ["--write", file], { TACENDA_ROOT_TOKEN: GIVEN });
    expect(code).toBe(0);
    expect(output).toContain("TACENDA_ROOT_TOKEN is set here");
    await sleep(1_100);
    const token = await readToken(file);
    expect(await Promise.all([GIVEN, token].map((one) => isRoot(server.url, one)))).toEqual([true, false]);
    await server.end("SIGTERM");

    const plain = await spawnServer(place);
    expect(existsSync(join(place.dataDir, "root-token"))).toBe(false);
    expect(await Promise.all([GIVEN, token].map((one) => isRoot(plain.url, one)))).toEqual([false, true]);
    await writeFile(join(place.dataDir, "root-token"), `${token}\n`);
    const again = await reset(place, ["--write", file]);
    expect(again.output).toContain("root-token holds an earlier one: delete it.");
    expect(again.output).toContain("A server that is started with TACENDA_ROOT_TOKEN takes that one instead");
  });

  test("a file that cannot be written leaves the old one in force", async () => {
    const place = await freshPlace(database);
    const server = await spawnServer(place);
    const old = await readToken(join(place.dataDir, "root-token"));
    const folder = await freshFolder();
    await symlink("/dev/null", join(folder, "device"));
    for (const [file, word] of [
      [join(folder, "nowhere", "token"), "ENOENT"],
      [join(folder, "device"), "is not a file"],
      [folder, "is not a file"],
    ] as const) {
      const { code, output } = await reset(place, ["--write", file]);
      expect([file, code, output]).toEqual([file, 1, expect.stringContaining(word) as string]);
    }
    await sleep(1_100);
    expect(await isRoot(server.url, old)).toBe(true);
  });

  test("of several at once each has its turn or says so, and the file has the one that holds", async () => {
    const place = await freshPlace(database);
    const server = await spawnServer(place);
    const outcomes = await Promise.all([1, 2, 3].map(() => reset(place)));
    for (const { code, output } of outcomes) {
      expect([code, output]).toEqual([
        code === 0 ? 0 : 1,
        expect.stringContaining(code === 0 ? "is now the one in" : "Another reset is under way") as string,
      ]);
    }
    expect(outcomes.some(({ code }) => code === 0)).toBe(true);
    const token = await readToken(join(place.dataDir, "root-token"));
    expect(await becomes(server.url, token, true)).toBeLessThan(SOON_MILLISECONDS);
  });

  test("one that was interrupted after the new token held is brought to its end first", async () => {
    const place = await freshPlace(database);
    const file = join(place.dataDir, "root-token");
    const server = await spawnServer(place);
    const old = await readToken(file);
    expect((await reset(place)).code).toBe(0);
    // As if it had been killed before the file was put in its place.
    const token = await readToken(file);
    await rename(file, `${file}.new`);
    await writeFile(file, `${old}\n`);
    const refused = await reset(place, ["--write", join(place.dataDir, "nowhere", "token")]);
    expect(refused.code).toBe(1);
    expect(await becomes(server.url, token, true)).toBeLessThan(SOON_MILLISECONDS);
    expect((await reset(place)).code).toBe(0);
    expect(existsSync(`${file}.new`)).toBe(false);
    expect(await becomes(server.url, await readToken(file), true)).toBeLessThan(SOON_MILLISECONDS);
  });
});

test("nothing is made where there is no database, and one of another version is left as it is", async () => {
  const place = await freshPlace("SQLite");
  const { dataDir } = place;
  const none = await reset(place);
  expect([none.code, none.output]).toEqual([1, expect.stringContaining("There is no database in") as string]);
  expect(existsSync(dataDir)).toBe(false);
  await (await spawnServer(place)).end("SIGTERM");
  const inDatabase = (text: string) => {
    const database = new BetterSqlite3(join(dataDir, "tacenda.db"));
    const statement = database.prepare(text);
    const rows = statement.reader ? statement.all() : [statement.run()];
    database.close();
    return rows;
  };
  const known = () => inDatabase("select name, value from settings union all select name, '' from kysely_migration");
  inDatabase("delete from kysely_migration where name = (select max(name) from kysely_migration)");
  const before = known();
  const older = await reset(place);
  expect([older.code, older.output]).toEqual([1, expect.stringContaining("older version of Tacenda") as string]);
  expect(known()).toEqual(before);
  inDatabase("insert into kysely_migration values ('9999_later', '')");
  const newer = await reset(place);
  expect([newer.code, newer.output]).toEqual([1, expect.stringContaining("newer version of Tacenda") as string]);
});
