/**
 * A copy of the built server with a bug planted in it, to show that a suite can fail. The bug is an edit of the built
 * text; an edit that does not apply exactly once is an error, so that no control can silently become a no-op.
 */

import { cp, readFile, readdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");

/** Replaces `find` by `replace`. */
export interface Edit {
  find: string;
  replace: string;
}

/** Copies the built server below `folder`, with the edits made, and gives the path of its command. */
export async function seedServer(folder: string, edits: readonly Edit[]): Promise<string> {
  const copy = join(folder, "repository/packages/server");
  for (const name of ["bin", "dist", "package.json"]) {
    await cp(join(ROOT, "packages/server", name), join(copy, name), { recursive: true });
  }
  await symlink(join(ROOT, "node_modules"), join(folder, "repository/node_modules"));
  await symlink(join(ROOT, "packages/server/node_modules"), join(copy, "node_modules"));
  for (const edit of edits) await applyOnce(join(copy, "dist"), edit);
  return join(copy, "bin/tacenda-server.js");
}

async function applyOnce(folder: string, { find, replace }: Edit): Promise<void> {
  const files = (await readdir(folder)).filter((name) => name.endsWith(".js")).map((name) => join(folder, name));
  const texts = await Promise.all(files.map((file) => readFile(file, "utf8")));
  const count = texts.reduce((sum, text) => sum + text.split(find).length - 1, 0);
  if (count !== 1) throw new Error(`The planted bug applies ${count} times instead of once; adapt it to: ${find}`);
  const index = texts.findIndex((text) => text.includes(find));
  await writeFile(
    files[index] ?? "",
    (texts[index] ?? "").replace(find, () => replace),
  );
}
