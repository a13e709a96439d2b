/** The data directory's lock, between real processes. */

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { DataDirectoryLockedError, lockDataDirectory } from "../../src/storage/lock.js";

const packageFolder = new URL("../../", import.meta.url);
/** Takes the lock as lock.ts does, says so, and waits to be killed. */
const HOLDER = `
  import BetterSqlite3 from "better-sqlite3";
  const connection = new BetterSqlite3(process.argv[1] + "/lock", { timeout: 100 });
  connection.exec("begin exclusive");
  process.stdout.write("locked");
  setInterval(() => {}, 1_000);
`;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tacenda-lock-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

async function holdInAnotherProcess(): Promise<ChildProcess> {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", HOLDER, folder], {
    cwd: packageFolder,
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  const gone = once(child, "exit");
  child.kill("SIGKILL");
  await gone;
}

test("is refused while another process holds it, and free once that is killed", async () => {
  const holder = await holdInAnotherProcess();
  try {
    expect(() => lockDataDirectory(folder)).toThrow(DataDirectoryLockedError);
    expect(() => lockDataDirectory(folder)).toThrow(/Stop it first/);
  } finally {
    await kill(holder);
  }
  const lock = lockDataDirectory(folder);
  lock.release();
});

test("is exclusive within one process too, and a refused attempt does not loosen it", () => {
  const lock = lockDataDirectory(folder);
  expect(() => lockDataDirectory(folder)).toThrow(DataDirectoryLockedError);
  expect(() => lockDataDirectory(folder)).toThrow(DataDirectoryLockedError);
  lock.release();
  const next = lockDataDirectory(folder);
  next.release();
  next.release();
});

test("keeps other processes out, also after a refused attempt of its own", async () => {
  const lock = lockDataDirectory(folder);
  expect(() => lockDataDirectory(folder)).toThrow(DataDirectoryLockedError);
  const child = spawn(process.execPath, ["--input-type=module", "--eval", HOLDER, folder], {
    cwd: packageFolder,
    stdio: "ignore",
  });
  // It ends with an error instead of holding the lock.
  const [code] = (await once(child, "exit")) as [number | null];
  expect(code).toBe(1);
  lock.release();
});

test("does not lock other directories, and its file is the owner's alone", () => {
  const other = mkdtempSync(join(tmpdir(), "tacenda-lock-"));
  const locks = [folder, other].map((directory) => lockDataDirectory(directory));
  expect(statSync(join(folder, "lock")).mode & 0o777).toBe(0o600);
  for (const lock of locks) lock.release();
  rmSync(other, { recursive: true });
});

test("of a directory that does not exist says what is wrong", () => {
  expect(() => lockDataDirectory(join(folder, "missing"))).toThrow(/ENOENT/);
});
