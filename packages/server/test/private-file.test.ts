/** Files that only their owner can read, whatever was there before; spec/http.md § Starting. */

import { statSync } from "node:fs";
import { chmod, mkdir, readFile, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { expect, test } from "vitest";

import { makePrivateFolder, writePrivateFile } from "../src/private-file.js";
import { freshFolder } from "./world.js";

const modeOf = (path: string) => statSync(path).mode & 0o777;

test("a file that was open to others is replaced by one that is not", async () => {
  const folder = await freshFolder();
  const file = join(folder, "root-token");
  await writeFile(file, "old, and longer than the new one");
  await chmod(file, 0o644);
  await writePrivateFile(file, "new\n");
  expect([await readFile(file, "utf8"), modeOf(file)]).toEqual(["new\n", 0o600]);
  expect(await readdir(folder)).toEqual(["root-token"]);
});

test("a failure leaves what was there, and no temporary file", async () => {
  const folder = await freshFolder();
  const file = join(folder, "root-token");
  await mkdir(file);
  await expect(writePrivateFile(file, "new")).rejects.toMatchObject({ syscall: "rename" });
  expect(await readdir(folder)).toEqual(["root-token"]);
  expect(await readdir(file)).toEqual([]);
});

test("what places the file finds it whole", async () => {
  const file = join(await freshFolder(), "file");
  let seen: unknown;
  await writePrivateFile(file, "text", async (temporary) => {
    seen = [await readFile(temporary, "utf8"), modeOf(temporary)];
  });
  expect(seen).toEqual(["text", 0o600]);
});

test("a folder is made with those above it, and is its owner's", async () => {
  const folder = await freshFolder();
  await makePrivateFolder(join(folder, "a", "b", "c"));
  expect(["a", "a/b", "a/b/c"].map((path) => modeOf(join(folder, path)))).toEqual([0o700, 0o700, 0o700]);
});
