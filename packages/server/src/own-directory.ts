/** The data directory as a folder: made, kept private, and explained when the system refuses it; spec/http.md § Starting. */

import { existsSync } from "node:fs";
import { chmod, readdir, stat } from "node:fs/promises";

import type { Logger } from "./logger.js";
import { makePrivateFolder } from "./private-file.js";
import { StartupError, codeOf } from "./startup-error.js";

/** What a server makes in its directory, SQLite's files beside its own and copies of them included. */
const OWN_FILES = /^(?:lock|tacenda\.db|keyring\.json|root-token)/;
/** Permissions of the group and of others. */
const OTHERS = 0o077;

/** Makes the directory (0700) when there is none, or makes it private. @throws {StartupError} when it cannot be used. */
export async function makeOwnDirectory(directory: string, logger: Logger): Promise<void> {
  try {
    if (existsSync(directory)) await tighten(directory, logger);
    else await makePrivateFolder(directory);
  } catch (error) {
    throw explainRefusal(directory, error);
  }
}

/** What to throw when work in the directory failed: a sentence where the system or SQLite refused, else the error itself. */
export function explainRefusal(directory: string, error: unknown): unknown {
  const code = codeOf(error);
  if (code === undefined) return error;
  const need =
    code === "ENOSPC" || code === "SQLITE_FULL" ? "its disk is full" : "it must be a folder this user can write";
  return new StartupError(`Cannot use the data directory ${directory} (${code}): ${need}.`, { cause: error });
}

/** Takes the directory's permissions from all but its owner, unless it holds other things that others may need. */
async function tighten(directory: string, logger: Logger): Promise<void> {
  const { mode, uid } = await stat(directory);
  // Windows has neither such modes nor such users.
  if (uid !== process.getuid?.() || (mode & OTHERS) === 0) return;
  const names = await readdir(directory);
  // Nobody means to close /tmp or a home folder to the rest of the machine.
  if (names.some((name) => !OWN_FILES.test(name) && name !== "lost+found")) {
    logger.warn(
      { directory },
      "the data directory is open to other users and holds more than data: use one of its own",
    );
    return;
  }
  await chmod(directory, 0o700);
  logger.warn({ directory }, "the data directory was open to other users: its mode is now 0700");
}
