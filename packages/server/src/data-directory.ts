/** The files of an embedded server: its lock, its database and its keyring; spec/http.md § Starting. */

import { existsSync } from "node:fs";
import { chmod, mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";

import type { KeyProvider } from "./envelope/key-provider.js";
import { openKeyring } from "./envelope/local-keyring.js";
import { StartupError } from "./startup-error.js";
import type { Database } from "./storage/database.js";
import { lockDataDirectory } from "./storage/lock.js";
import { openSqlite } from "./storage/sqlite.js";

export interface DataDirectory {
  database: Database;
  provider: KeyProvider;
  /** Closes the database and gives the lock back. */
  close(): Promise<void>;
}

/**
 * Makes the directory (0700) when there is none, locks it, and opens what is in it.
 *
 * @throws {DataDirectoryLockedError} when another server runs on it.
 * @throws {StartupError} when the keyring is missing or is not the one that the database needs.
 * @throws {KeyringError} when the keyring is there and cannot be used.
 */
export async function openDataDirectory(path: string, keyringFile?: string): Promise<DataDirectory> {
  const directory = resolve(path);
  if (!existsSync(directory)) {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    // The mode given to mkdir is cut by the umask.
    await chmod(directory, 0o700);
  }
  const lock = lockDataDirectory(directory);
  let database: Database | undefined;
  try {
    database = await openSqlite(join(directory, "tacenda.db"));
    const provider = await openProvider(database, resolve(keyringFile ?? join(directory, "keyring.json")));
    return { database, provider, close: () => close(database, lock) };
  } catch (error) {
    await close(database, lock);
    throw error;
  }
}

async function close(database: Database | undefined, lock: { release(): void }): Promise<void> {
  try {
    await database?.close();
  } finally {
    lock.release();
  }
}

/** Only a database that holds no wrapped keys may get a new keyring: what is there could never be opened with it. */
async function openProvider(database: Database, file: string): Promise<KeyProvider> {
  const needed = await database.directory.keyProviders();
  if (needed.length > 0 && !existsSync(file)) {
    throw new StartupError(
      `The keyring is missing, and without it nothing in this database can be opened (it needs ${needed.join(", ")}). ` +
        `Restore the file ${file}, or name the keyring with --keyring.`,
    );
  }
  const provider = await openKeyring(file, { create: needed.length === 0 });
  const others = needed.filter((id) => id !== provider.id);
  if (others.length > 0) {
    throw new StartupError(
      `This is another keyring: it is ${provider.id}, and the database needs ${others.join(", ")}. ` +
        "Name the right one with --keyring.",
    );
  }
  return provider;
}
