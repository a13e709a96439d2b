/** Resets the root token into a file: at every moment a token that works is in it, or in the one beside it; docs/running.md § Root token. */

import { lstat, readFile, rename, unlink } from "node:fs/promises";
import { basename, dirname } from "node:path";

import { replaceRootToken, storedRootDigest, type RootTokenSettings } from "./auth/root-token.js";
import { digestToken } from "./auth/tokens.js";
import { syncFolder, writePrivateFile } from "./private-file.js";
import { StartupError, codeOf } from "./startup-error.js";
import { StorageError } from "./storage/record-store.js";

/**
 * Makes a new root token and writes it to `file`, mode 0600, in an existing folder. What was in the file goes when the new token
 * holds, and not before: until then that one is beside it, in a file whose name ends in `.new`. A reset that was interrupted
 * there is brought to its end first.
 *
 * @throws {StartupError} in words for a person. @throws {StorageError} when the database fails, and nothing has changed.
 */
export async function resetRootTokenFile(settings: RootTokenSettings, file: string): Promise<void> {
  const next = `${file}.new`;
  try {
    await refuseOther(file);
    if (await holds(settings, next)) await put(next, file);
    await replaceRootToken(settings, (token) => writePrivateFile(next, `${token}\n`));
    await put(next, file);
  } catch (error) {
    if (error instanceof StorageError && error.outcome === "unknown") {
      throw new StartupError(
        `The connection broke at the last moment: either the token in ${next} holds, or the one before. Reset it again.`,
        { cause: error },
      );
    }
    await discard(settings, next);
    throw explained(file, error);
  }
}

/** A device or a folder would be replaced by the file. @throws {StartupError} */
async function refuseOther(file: string): Promise<void> {
  const found = await lstat(file).catch(() => null);
  if (found?.isFile() === false) throw new StartupError(`${file} is not a file: name another one with --write.`);
}

async function put(next: string, file: string): Promise<void> {
  await rename(next, file);
  await syncFolder(dirname(file));
}

/** Whether the token in `file`, if there is one, is the root token. */
async function holds(settings: RootTokenSettings, file: string): Promise<boolean> {
  const text = await readFile(file, "utf8").catch(() => null);
  const digest = text === null ? null : await storedRootDigest(settings);
  return text !== null && digest !== null && Buffer.compare(digestToken(text.trim()), digest) === 0;
}

/** Removes a token that never holds. What may be the only copy of the one that does stays. */
async function discard(settings: RootTokenSettings, next: string): Promise<void> {
  try {
    if (!(await holds(settings, next))) await unlink(next);
  } catch {
    // It is not there, or the database cannot say whether it holds.
  }
}

function explained(file: string, error: unknown): unknown {
  const code = codeOf(error);
  if (code === undefined || error instanceof StorageError) return error;
  return new StartupError(
    `Cannot write ${file} (${code}): name a file with --write that this user can write, in a folder that exists. If there is a file ` +
      `${basename(file)}.new beside it, the token in that one holds.`,
    { cause: error },
  );
}
