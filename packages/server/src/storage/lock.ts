/**
 * One server per data directory: an exclusive transaction held on a small SQLite file. Unlike a pid file, the system
 * takes it back when the process ends in whatever way, kill -9 included.
 */

import { chmodSync, closeSync, existsSync, openSync } from "node:fs";
import { resolve } from "node:path";

import BetterSqlite3 from "better-sqlite3";

/** Another process uses this data directory. */
export class DataDirectoryLockedError extends Error {
  override name = "DataDirectoryLockedError";
  constructor() {
    super("Another Tacenda server uses this data directory. Stop it first, or choose another --data-dir.");
  }
}

/**
 * Locks `directory`, which must exist, until `release` is called or the process ends.
 * @throws {DataDirectoryLockedError} when it is locked already, by this process or another.
 */
export function lockDataDirectory(directory: string): { release(): void } {
  const lock = tryLockFile(resolve(directory, "lock"));
  if (lock === null) throw new DataDirectoryLockedError();
  return lock;
}

/**
 * Locks the file at `path`, which is made when it is not there, until `release` is called or the process ends. Null when it is
 * locked already, by this process or another.
 */
export function tryLockFile(path: string): { release(): void } | null {
  // Never opened here once it exists: closing it would drop a lock that this very process already holds.
  if (!existsSync(path)) closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
  const connection = new BetterSqlite3(path, { timeout: 0 });
  try {
    // A journal would take room, and on a full disk there is none; nothing is ever written that it could undo.
    connection.pragma("journal_mode = memory");
    connection.exec("begin exclusive");
  } catch (error) {
    connection.close();
    if (error instanceof BetterSqlite3.SqliteError && error.code.startsWith("SQLITE_BUSY")) {
      return null;
    }
    throw error;
  }
  return { release: () => void connection.close() };
}
