/** What a reset of the root token leaves when it fails half-way; docs/running.md § Root token. */

import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { expect, onTestFinished, test, vi } from "vitest";

import { ensureRootToken, storedRootDigest, type RootTokenSettings } from "../src/auth/root-token.js";
import { digestToken } from "../src/auth/tokens.js";
import { resetRootToken } from "../src/cli/reset-root-token.js";
import { resetRootTokenFile } from "../src/root-token-file.js";
import { StorageError } from "../src/storage/record-store.js";
import { openSqlite } from "../src/storage/sqlite.js";
import { freshFolder } from "./world.js";

/** A data directory whose database has a root token, which is in the file. */
async function setUp() {
  const dataDir = await freshFolder();
  const database = await openSqlite(join(dataDir, "tacenda.db"));
  onTestFinished(() => database.close());
  const { directory } = database;
  const file = join(dataDir, "root-token");
  expect(await ensureRootToken(directory, (token) => writeFile(file, token))).toBe(true);
  const tokenIn = async (name: string) => (await readFile(name, "utf8")).trim();
  const holds = async (token: string) =>
    Buffer.compare(digestToken(token), (await storedRootDigest(directory)) ?? new Uint8Array()) === 0;
  expect(await holds(await tokenIn(file))).toBe(true);
  return { dataDir, directory, file, tokenIn, holds };
}

/** The directory, of which this call does as it is told. */
function withReplace(
  directory: RootTokenSettings,
  replaceSetting: RootTokenSettings["replaceSetting"],
): RootTokenSettings {
  return { getSetting: (name) => directory.getSetting(name), replaceSetting };
}

test("a database that refuses leaves the old one in force and in the file", async () => {
  const { directory, file, tokenIn, holds } = await setUp();
  const failing = withReplace(directory, () => Promise.reject(new StorageError("It failed.")));
  await expect(resetRootTokenFile(failing, file)).rejects.toThrow("It failed.");
  expect(await holds(await tokenIn(file))).toBe(true);
  expect(existsSync(`${file}.new`)).toBe(false);
});

test.each([true, false])(
  "a commit of which nobody heard (it happened: %s) leaves both, and the next reset ends it",
  async (happened) => {
    const { directory, file, tokenIn, holds } = await setUp();
    const silent = withReplace(directory, async (...change) => {
      if (happened) await directory.replaceSetting(...change);
      throw new StorageError("Lost.", { outcome: "unknown" });
    });
    await expect(resetRootTokenFile(silent, file)).rejects.toThrow(
      /either the token in .*root-token\.new holds, or the one before/,
    );
    expect([await holds(await tokenIn(file)), await holds(await tokenIn(`${file}.new`))]).toEqual([
      !happened,
      happened,
    ]);
    await resetRootTokenFile(directory, file);
    expect(await holds(await tokenIn(file))).toBe(true);
    expect(existsSync(`${file}.new`)).toBe(false);
  },
);

test("of two that meet one is told that its token never holds", async () => {
  const { directory, file, tokenIn, holds } = await setUp();
  const late = withReplace(directory, async (...change) => {
    await resetRootTokenFile(directory, `${file}-of-another`);
    return await directory.replaceSetting(...change);
  });
  await expect(resetRootTokenFile(late, file)).rejects.toThrow("Another reset of the root token came in between");
  expect(await holds(await tokenIn(`${file}-of-another`))).toBe(true);
  expect(existsSync(`${file}.new`)).toBe(false);
});

test("a first start that a reset came before says so, and changes nothing", async () => {
  const { directory } = await setUp();
  const before = await storedRootDigest(directory);
  const replace = withReplace(directory, (...change) => directory.replaceSetting(...change));
  const late = { ...replace, getSetting: () => Promise.resolve(null) };
  expect(await ensureRootToken(late, () => Promise.resolve())).toBe(false);
  expect(await storedRootDigest(directory)).toEqual(before);
});

test("on a terminal it is shown, and in no file", async () => {
  const { dataDir, file, tokenIn, holds } = await setUp();
  const old = await tokenIn(file);
  const shown: string[] = [];
  const write = vi.spyOn(process.stdout, "write").mockImplementation((text, done?: unknown) => {
    shown.push(String(text));
    if (typeof done === "function") (done as () => void)();
    return true;
  });
  const { isTTY } = process.stdout;
  onTestFinished(() => {
    write.mockRestore();
    process.stdout.isTTY = isTTY;
  });
  process.stdout.isTTY = true;
  await resetRootToken({ dataDir }, undefined);
  const [token = ""] = /tct_\w+/.exec(shown.join("")) ?? [];
  expect(await holds(token)).toBe(true);
  expect(await tokenIn(file)).toBe(old);
  expect(shown.join("")).toMatch(
    /root-token holds an earlier one: delete it\.\n.*TACENDA_ROOT_TOKEN takes that one instead/,
  );
});
