/** What a server runs on: its directory, its database and its key providers; spec/http.md § Starting. */

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";

import { openConfiguredProviders } from "./configured-providers.js";
import {
  openBesideServers,
  openForServing,
  openWholeSnapshot,
  refuseUnfit,
  type DatabasePlace,
  type HeldDatabase,
  type Hold,
} from "./database-place.js";
import type { GuardOptions } from "./envelope/guarded-key-provider.js";
import type { KeyProvider } from "./envelope/key-provider.js";
import type { KeyProviders } from "./envelope/key-providers.js";
import type { Logger } from "./logger.js";
import { makeOwnDirectory } from "./own-directory.js";
import { postgresPlace } from "./postgres-place.js";
import { sqlitePlace } from "./sqlite-place.js";
import type { Database } from "./storage/database.js";
import type { Snapshot } from "./storage/snapshot.js";
import { takeTurnToStart, type Turn } from "./turn-to-start.js";

/** Where the database is, when it is not in the data directory. */
export interface DatabaseOptions {
  databaseUrl?: string | undefined;
  /** Connections to it at once, at most. */
  databaseConnections?: number | undefined;
}

export interface DataDirectory {
  database: Database;
  providers: KeyProviders;
  /** Whatever a database has to have for servers to use it has been made: others may start on it. */
  started: () => Promise<void>;
  /** Closes the providers and the database, and lets others have it. */
  close(): Promise<void>;
}

/**
 * Makes the directory (0700) when there is none, and opens the database and the providers.
 *
 * @throws {DataDirectoryLockedError} when another server runs on it.
 * @throws {StartupError} when it cannot be written, or the keyring is missing or is not the one that the database needs.
 * @throws {KeyringError} when the keyring is there and cannot be used.
 * @throws {StorageError} when the database cannot be opened.
 */
export async function openDataDirectory(
  path: string,
  options: DatabaseOptions & {
    keyringFile: string | undefined;
    /** None: the local keyring. */
    keyProviders?: readonly (string | KeyProvider)[] | undefined;
    guard?: GuardOptions;
    logger: Logger;
  },
): Promise<DataDirectory> {
  const directory = resolve(path);
  const { keyProviders: wanted = [], guard, logger } = options;
  await makeOwnDirectory(directory, logger);
  const place = placeOf(directory, options);
  const keyringFile = resolve(options.keyringFile ?? join(directory, "keyring.json"));
  const isForeign = place.exists() === false && existsSync(keyringFile) && wanted.length === 0;
  const { database, close } = await openForServing(place);
  let turn: Turn = { end: () => Promise.resolve() };
  try {
    if (isForeign) logger.warn({ file: keyringFile }, "the keyring has served a database before; this one is new");
    if (place.isShared) {
      turn = await takeTurnToStart(database.maintenance);
      await refuseUnfit(place, database);
    }
    const agree = place.isShared;
    const from = { wanted, keyringFile, agree, logger, ...(guard && { guard }) };
    const providers = await openConfiguredProviders(database, from);
    return {
      database,
      providers,
      started: () => turn.end(),
      async close() {
        await providers.close();
        await turn.end().finally(close);
      },
    };
  } catch (error) {
    await turn.end().finally(close);
    throw error;
  }
}

/**
 * Makes the directory when there is none, and opens its database for a restore: one that is new, or of this version of the
 * program. It needs no keys.
 *
 * @throws {DataDirectoryLockedError | StartupError | NewerDatabaseError | OlderDatabaseError | StorageError}
 */
export async function openRestoreDirectory(
  path: string,
  logger: Logger,
  options: DatabaseOptions = {},
): Promise<HeldDatabase> {
  const directory = resolve(path);
  const place = placeOf(directory, options);
  await makeOwnDirectory(directory, logger);
  return await place.openForRestore();
}

/** Where the directory's database is, for a sentence to a person: it may be in another place. */
export function nameOfData(path: string, options: DatabaseOptions = {}): string {
  return placeOf(resolve(path), options).name;
}

/**
 * The directory's database for a small change, whether servers run on it or not. None of them is held up for longer than the
 * change takes.
 *
 * @throws as openDataSnapshot
 */
export async function openDataBeside(path: string, options: DatabaseOptions = {}): Promise<HeldDatabase> {
  return await openBesideServers(placeOf(resolve(path), options));
}

/**
 * A snapshot of the directory's database, whether a server runs on it or not.
 *
 * @throws {StartupError} when there is no database, or it is half restored.
 * @throws {NewerDatabaseError | OlderDatabaseError} when its tables are not those of this program.
 * @throws {StorageError} when it cannot be opened.
 */
export async function openDataSnapshot(path: string, options: DatabaseOptions = {}): Promise<Snapshot> {
  return await openWholeSnapshot(placeOf(resolve(path), options));
}

/**
 * The directory's database, held for a change that no server may be there for. Whoever calls this releases it.
 *
 * @throws {DataDirectoryLockedError} when a server runs on it.
 * @throws what openDataSnapshot throws.
 */
export async function holdData(path: string, options: DatabaseOptions = {}): Promise<{ name: string; hold: Hold }> {
  const place = placeOf(resolve(path), options);
  await (await openWholeSnapshot(place)).close();
  return { name: place.name, hold: place.hold() };
}

function placeOf(directory: string, { databaseUrl, databaseConnections }: DatabaseOptions): DatabasePlace {
  return databaseUrl === undefined ? sqlitePlace(directory) : postgresPlace(databaseUrl, databaseConnections);
}
