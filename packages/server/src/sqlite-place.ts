/** The embedded database of a data directory, which one server at a time may use; spec/http.md § Starting. */

import { accessSync, constants, existsSync } from "node:fs";
import { join } from "node:path";

import type { DatabasePlace, HeldDatabase } from "./database-place.js";
import { explainRefusal } from "./own-directory.js";
import { StartupError, codeOf } from "./startup-error.js";
import { OlderDatabaseError, type Database } from "./storage/database.js";
import { lockDataDirectory } from "./storage/lock.js";
import { StorageFullError } from "./storage/record-store.js";
import type { Snapshot } from "./storage/snapshot.js";
import { openSqlite, openSqliteSnapshot, watchSqlite } from "./storage/sqlite.js";

/** `directory` is absolute, and made before the database is opened for serving or restoring. */
export function sqlitePlace(directory: string): DatabasePlace {
  const file = join(directory, "tacenda.db");
  return {
    name: `the database in ${directory}`,
    isShared: false,
    exists: () => existsSync(file),
    open: () =>
      lockedIn(directory, async () => {
        const database = await openSqlite(file);
        // The lock says that whoever held them is gone.
        return await closingOnFailure(database, () => whereThereIsRoom(() => database.maintenance.clearLeases()));
      }),
    openForRestore: () =>
      lockedIn(directory, async () => {
        // An older database holds something: bringing it up to date would change it before it is refused.
        if (existsSync(file)) await refuseOlder(file);
        return await openSqlite(file);
      }),
    async openBeside() {
      // Bringing it up to date would pull the tables from under an older server.
      await (await openSnapshot(directory, file)).close();
      const database = await openSqlite(file);
      return { database, close: () => database.close() };
    },
    hold() {
      const lock = claim(directory);
      return {
        // The lock keeps them out.
        refuseOthers: () => Promise.resolve(),
        // It does not keep out what writes beside servers.
        holdWrites: () => new Promise((resolve) => resolve(watchSqlite(file))),
        open: () => openSqlite(file),
        release: () => lock.release(),
      };
    },
    openSnapshot: () => openSnapshot(directory, file),
  };
}

async function openSnapshot(directory: string, file: string): Promise<Snapshot> {
  if (isReadable(directory, file)) return await openSqliteSnapshot(file);
  throw new StartupError(`There is no database in ${directory}: name the data directory of a server.`);
}

/** Whether there is such a file. @throws {StartupError} when this user cannot tell, or read it. */
function isReadable(directory: string, file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    return true;
  } catch (error) {
    const code = codeOf(error);
    if (code !== "EACCES" && code !== "EPERM") return existsSync(file);
    throw new StartupError(`The data directory ${directory} cannot be read (${code}): run this as the server's user.`, {
      cause: error,
    });
  }
}

/** @throws {DataDirectoryLockedError} when another server runs on the directory. */
async function lockedIn(directory: string, open: () => Promise<Database>): Promise<HeldDatabase> {
  const lock = claim(directory);
  try {
    const database = await open();
    return { database, close: () => database.close().finally(() => lock.release()) };
  } catch (error) {
    lock.release();
    throw error;
  }
}

function claim(directory: string): { release(): void } {
  try {
    return lockDataDirectory(directory);
  } catch (error) {
    throw explainRefusal(directory, error);
  }
}

/** On a full disk a server still starts, for reads go on; leases then end by the clock. */
async function whereThereIsRoom(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof StorageFullError)) throw error;
  }
}

async function closingOnFailure(database: Database, work: () => Promise<void>): Promise<Database> {
  try {
    await work();
    return database;
  } catch (error) {
    await database.close();
    throw error;
  }
}

async function refuseOlder(file: string): Promise<void> {
  try {
    await (await openSqliteSnapshot(file)).close();
  } catch (error) {
    if (!(error instanceof OlderDatabaseError && error.isNew)) throw error;
  }
}
