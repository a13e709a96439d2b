/** One connection to an SQLite file, with every setting that durability and secrecy rest on made and read back. */

import { chmodSync, closeSync, existsSync, openSync } from "node:fs";
import { resolve } from "node:path";

import BetterSqlite3 from "better-sqlite3";

import { StorageError } from "./record-store.js";

/** `writer` runs the transactions, `reader` everything else. */
export type ConnectionRole = "writer" | "reader";

/** Milliseconds to wait for another process that holds a lock, at the start. */
const BUSY_TIMEOUT = 5_000;

/** What the write-ahead log may take on the disk, in bytes, when nobody needs more of it. */
export const MAX_LOG_BYTES = 33_554_432;

/** Pragmas and the value each must read back as. journal_mode comes first, for it can fail on a busy file. */
const SETTINGS: readonly (readonly [pragma: string, value: string, inForce: string | number])[] = [
  ["busy_timeout", String(BUSY_TIMEOUT), BUSY_TIMEOUT],
  ["journal_mode", "wal", "wal"],
  // FULL: better-sqlite3's build defaults to NORMAL with WAL, which loses acknowledged writes on power loss.
  ["synchronous", "full", 2],
  // On macOS a plain fsync does not reach the disk; elsewhere this changes nothing.
  ["fullfsync", "on", 1],
  ["secure_delete", "on", 1],
  // Without it the log's file stays as large as it ever was.
  ["journal_size_limit", String(MAX_LOG_BYTES), MAX_LOG_BYTES],
  ["foreign_keys", "on", 1],
  // Temporary data never touches the disk.
  ["temp_store", "memory", 2],
  // A schema that someone edited can run no function with side effects.
  ["trusted_schema", "off", 0],
];

/**
 * Opens `file`, making it when there is none. The file and SQLite's two files beside it are readable by their owner only.
 * @throws {StorageError} when it cannot be opened, is no database, or a setting does not take.
 */
export function openConnection(file: string, role: ConnectionRole): BetterSqlite3.Database {
  // Absolute, so that no name is taken for a URI.
  const path = resolve(file);
  let connection: BetterSqlite3.Database | undefined;
  try {
    restrict(path);
    connection = new BetterSqlite3(path, { timeout: BUSY_TIMEOUT });
    apply(connection, [...SETTINGS, ["query_only", role === "reader" ? "on" : "off", role === "reader" ? 1 : 0]]);
    return connection;
  } catch (error) {
    connection?.close();
    if (error instanceof StorageError) throw error;
    throw new StorageError(
      "The database file could not be opened. Check that it is a Tacenda database, and that this user can read and write it and its folder.",
      { cause: error },
    );
  }
}

function apply(connection: BetterSqlite3.Database, settings: typeof SETTINGS): void {
  for (const [pragma, value, inForce] of settings) {
    connection.pragma(`${pragma} = ${value}`);
    if (connection.pragma(pragma, { simple: true }) !== inForce) {
      throw new StorageError(
        `The database does not accept the setting ${pragma} = ${value}, without which it is not safe.`,
      );
    }
  }
}

/**
 * Makes the file with mode 0600, or gives it that mode; SQLite gives its own two files the mode of the first. An existing
 * file is never opened here: closing it again would drop the locks that this process already has on it.
 */
function restrict(path: string): void {
  if (!existsSync(path)) closeSync(openSync(path, "wx", 0o600));
  for (const name of [path, `${path}-wal`, `${path}-shm`]) {
    if (existsSync(name)) chmodSync(name, 0o600);
  }
}
