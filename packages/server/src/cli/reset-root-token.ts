/** `tacenda-server reset-root-token`: a new root token in the place of the one in the database; docs/running.md § Root token. */

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

import { replaceRootToken } from "../auth/root-token.js";
import { openDataBeside } from "../data-directory.js";
import { Lease } from "../lease.js";
import { makeOwnDirectory } from "../own-directory.js";
import { resetRootTokenFile } from "../root-token-file.js";
import { StartupError } from "../startup-error.js";
import type { Directory } from "../storage/directory.js";
import { StorageError } from "../storage/record-store.js";
import type { DatabaseFlags } from "./options.js";
import { createLogger, showRootToken } from "./process.js";

const LEASE = "root-token";

export interface ResetFlags extends DatabaseFlags {
  dataDir: string;
  /** Where to write the token; by default it is shown on a terminal, or written to the data directory where there is none. */
  write?: string;
}

/** `given`: TACENDA_ROOT_TOKEN, as it is here. */
export async function resetRootToken(flags: ResetFlags, given: string | undefined): Promise<void> {
  const { dataDir, databaseUrl, write } = flags;
  const held = await openDataBeside(dataDir, { databaseUrl });
  try {
    const own = join(resolve(dataDir), "root-token");
    const file = write !== undefined ? resolve(write) : process.stdout.isTTY ? null : own;
    if (file === own) await makeOwnDirectory(resolve(dataDir), createLogger("warn", 2));
    const { directory, maintenance } = held.database;
    // Two that write to one file would put the token of one beside the digest of the other.
    const lease = new Lease(maintenance, LEASE);
    if (!(await lease.take())) {
      throw new StartupError("Another reset is under way, or was killed a moment ago. Try again in 15 seconds.");
    }
    try {
      if (file === null) await resetOnTerminal(directory);
      else await resetRootTokenFile(directory, file);
    } finally {
      await lease.release().catch(() => undefined);
    }
    say(file === null ? "This is the root token now." : `The root token is now the one in ${file} (mode 0600).`);
    say("The one before is refused within seconds, by every server on this database.");
    if (file !== own && existsSync(own)) say(`The file ${own} holds an earlier one: delete it.`);
    say(
      given === undefined
        ? "A server that is started with TACENDA_ROOT_TOKEN takes that one instead, and none in the database."
        : "But TACENDA_ROOT_TOKEN is set here: a server that is started with it takes that one instead, and none in the database.",
    );
  } finally {
    await held.close();
  }
}

async function resetOnTerminal(directory: Directory): Promise<void> {
  try {
    await replaceRootToken(directory, (token) => showRootToken(token, process.stdout));
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    throw new StartupError(
      error.outcome === "unknown"
        ? "The connection broke at the last moment: either the token above holds, or the one before. Reset it again."
        : "The database failed: the token above does not hold, the one before does. Try again.",
      { cause: error },
    );
  }
}

function say(sentence: string): void {
  process.stdout.write(`${sentence}\n`);
}
