/** The files of an embedded server: its lock, its database and its keyring; spec/http.md § Starting. */

import { existsSync } from "node:fs";
import { chmod, readdir, stat } from "node:fs/promises";
import { join, resolve } from "node:path";

import { openConfiguredProviders } from "./configured-providers.js";
import type { GuardOptions } from "./envelope/guarded-key-provider.js";
import type { KeyProvider } from "./envelope/key-provider.js";
import type { KeyProviders } from "./envelope/key-providers.js";
import type { Logger } from "./logger.js";
import { makePrivateFolder } from "./private-file.js";
import { StartupError, codeOf } from "./startup-error.js";
import { OlderDatabaseError, type Database } from "./storage/database.js";
import { lockDataDirectory } from "./storage/lock.js";
import { RESTORE_MARK } from "./storage/restoration.js";
import type { Snapshot } from "./storage/snapshot.js";
import { openSqlite, openSqliteSnapshot } from "./storage/sqlite.js";

export interface DataDirectory {
  database: Database;
  providers: KeyProviders;
  /** Closes the providers and the database, and gives the lock back. */
  close(): Promise<void>;
}

/** What a server makes in its directory, SQLite's files beside its own and copies of them included. */
const OWN_FILES = /^(?:lock|tacenda\.db|keyring\.json|root-token)/;
/** Permissions of the group and of others. */
const OTHERS = 0o077;

/**
 * Makes the directory (0700) when there is none, locks it, and opens what is in it.
 *
 * @throws {DataDirectoryLockedError} when another server runs on it.
 * @throws {StartupError} when it cannot be written, or the keyring is missing or is not the one that the database needs.
 * @throws {KeyringError} when the keyring is there and cannot be used.
 * @throws {StorageError} when the database cannot be opened.
 */
export async function openDataDirectory(
  path: string,
  options: {
    keyringFile: string | undefined;
    /** None: the local keyring. */
    keyProviders?: readonly (string | KeyProvider)[] | undefined;
    guard?: GuardOptions;
    logger: Logger;
  },
): Promise<DataDirectory> {
  const directory = resolve(path);
  const lock = await claim(directory, options.logger);
  const { keyProviders: wanted = [], guard, logger } = options;
  let database: Database | undefined;
  try {
    const file = join(directory, "tacenda.db");
    const keyringFile = resolve(options.keyringFile ?? join(directory, "keyring.json"));
    if (!existsSync(file) && existsSync(keyringFile) && wanted.length === 0) {
      logger.warn({ file: keyringFile }, "the keyring has served a database before; this one is new");
    }
    database = await openSqlite(file);
    await refuseHalfRestored(database, directory);
    // The lock says that whoever held them is gone.
    await database.maintenance.clearLeases();
    const providers = await openConfiguredProviders(database, { wanted, keyringFile, logger, ...(guard && { guard }) });
    return {
      database,
      providers,
      async close() {
        await providers.close();
        await close(database, lock);
      },
    };
  } catch (error) {
    await close(database, lock);
    throw error;
  }
}

/**
 * Makes the directory when there is none, locks it, and opens its database for a restore: one that is new, or of this
 * version of the program. It needs no keys.
 *
 * @throws {DataDirectoryLockedError | StartupError | NewerDatabaseError | OlderDatabaseError | StorageError}
 */
export async function openRestoreDirectory(
  path: string,
  logger: Logger,
): Promise<{ database: Database; close: () => Promise<void> }> {
  const directory = resolve(path);
  const lock = await claim(directory, logger);
  let database: Database | undefined;
  try {
    const file = join(directory, "tacenda.db");
    // An older database holds something: bringing it up to date would change it before it is refused.
    if (existsSync(file)) await refuseOlder(file);
    const opened = await openSqlite(file);
    database = opened;
    return { database: opened, close: () => close(opened, lock) };
  } catch (error) {
    await close(database, lock);
    throw error;
  }
}

/**
 * A snapshot of the directory's database, whether a server runs on it or not.
 *
 * @throws {StartupError} when there is no database, or it is half restored.
 * @throws {NewerDatabaseError | OlderDatabaseError} when its tables are not those of this program.
 * @throws {StorageError} when it cannot be opened.
 */
export async function openDataSnapshot(path: string): Promise<Snapshot> {
  const directory = resolve(path);
  const file = join(directory, "tacenda.db");
  if (!existsSync(file)) {
    throw new StartupError(`There is no database in ${directory}: name a server's data directory with --data-dir.`);
  }
  const snapshot = await openSqliteSnapshot(file);
  try {
    for await (const { name } of snapshot.rows("settings")) {
      if (name === RESTORE_MARK) throw halfRestored(directory);
    }
    return snapshot;
  } catch (error) {
    snapshot.close();
    throw error;
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

async function refuseOlder(file: string): Promise<void> {
  try {
    (await openSqliteSnapshot(file)).close();
  } catch (error) {
    if (!(error instanceof OlderDatabaseError && error.isNew)) throw error;
  }
}

async function refuseHalfRestored(database: Database, directory: string): Promise<void> {
  if ((await database.directory.getSetting(RESTORE_MARK)) !== null) throw halfRestored(directory);
}

function halfRestored(directory: string): StartupError {
  return new StartupError(
    `The database in ${directory} is half restored. Run the same restore again: it goes on where it stopped.`,
  );
}

/** Makes the directory, or makes it private, and locks it. */
async function claim(directory: string, logger: Logger): Promise<{ release(): void }> {
  try {
    if (existsSync(directory)) {
      await tighten(directory, logger);
    } else {
      await makePrivateFolder(directory);
    }
    return lockDataDirectory(directory);
  } catch (error) {
    throw explainRefusal(directory, error);
  }
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

async function close(database: Database | undefined, lock: { release(): void }): Promise<void> {
  try {
    await database?.close();
  } finally {
    lock.release();
  }
}
