/** The SDK under attack, loaded from a folder of sources: the repository's own, or a copy with a bug planted in it. */

import { cp, readFile, readdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";

import type { Edit } from "../seeded-server.js";

const ROOT = join(import.meta.dirname, "../..");
const SOURCES = join(ROOT, "packages/sdk/src");

/** What the attacks use of the SDK, all of it from the same folder. */
export interface Sdk extends Pick<typeof import("@tacenda/sdk"), "Tacenda" | "TacendaError"> {
  /** The functions below the client, for what no server can bring about from outside. */
  record: typeof import("../../packages/sdk/src/crypto/record.js");
}

/** Loads the SDK from `sources`; from the repository unless it says otherwise. */
export async function loadSdk(sources = SOURCES): Promise<Sdk> {
  const load = async <T>(file: string) => (await import(/* @vite-ignore */ join(sources, file))) as T;
  const { Tacenda, TacendaError } = await load<typeof import("@tacenda/sdk")>("index.ts");
  return { Tacenda, TacendaError, record: await load<Sdk["record"]>("crypto/record.ts") };
}

/**
 * Copies the SDK's sources below `folder`, makes the edits, and loads the copy.
 * @throws {Error} when an edit does not apply exactly once, so that no control can silently become a no-op.
 */
export async function loadSeededSdk(folder: string, edits: readonly Edit[]): Promise<Sdk> {
  const copy = join(folder, "src");
  await cp(SOURCES, copy, { recursive: true });
  await symlink(join(ROOT, "node_modules"), join(folder, "node_modules"));
  for (const edit of edits) await applyOnce(copy, edit);
  return await loadSdk(copy);
}

async function applyOnce(folder: string, { find, replace }: Edit): Promise<void> {
  const names = (await readdir(folder, { recursive: true })).filter((name) => name.endsWith(".ts"));
  const files = await Promise.all(
    names.map(async (name) => ({ path: join(folder, name), text: await readFile(join(folder, name), "utf8") })),
  );
  const found = files.filter(({ text }) => text.includes(find));
  const count = found.reduce((sum, { text }) => sum + text.split(find).length - 1, 0);
  const [file] = found;
  if (count !== 1 || file === undefined) {
    throw new Error(`The planted bug applies ${count} times instead of once; adapt it to the SDK: ${find}`);
  }
  await writeFile(
    file.path,
    file.text.replace(find, () => replace),
  );
}
