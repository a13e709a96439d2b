/** The embedded database: the SQL storage on one SQLite file, by one connection that writes and one that reads. */

import type { Database } from "./database.js";
import { StorageError } from "./record-store.js";
import type { HeldWrites } from "./restoration.js";
import type { Snapshot } from "./snapshot.js";
import { openConnection } from "./sqlite-connection.js";
import { createSqliteDatabase, createSqliteSnapshot } from "./sqlite-database.js";

/**
 * Opens the database in `file`, making it or bringing it up to date as needed.
 * @throws {NewerDatabaseError} when a newer program made it; it is left as it is.
 * @throws {StorageError} when it cannot be opened.
 */
export async function openSqlite(file: string): Promise<Database> {
  const writer = openConnection(file, "writer");
  try {
    return await createSqliteDatabase(writer, openConnection(file, "reader"));
  } catch (error) {
    writer.close();
    throw error;
  }
}

/**
 * Opens the database in `file`, which must exist, as it is now. It stays so for the snapshot, whatever others write; until
 * it is closed, what they write piles up in the file's log. Others may use the file, and nothing in it is changed.
 * @throws {NewerDatabaseError | OlderDatabaseError} when its tables are not those of this program.
 * @throws {StorageError} when it cannot be opened.
 */
export async function openSqliteSnapshot(file: string): Promise<Snapshot> {
  return await createSqliteSnapshot(openConnection(file, "reader"));
}

/** Sees whether anything is written to the database in `file`, and keeps nobody from it. @throws {StorageError} */
export function watchSqlite(file: string): HeldWrites {
  const connection = openConnection(file, "reader");
  // It changes when another connection has committed something.
  const state = () => connection.pragma("data_version", { simple: true });
  const before = state();
  return {
    check() {
      if (state() === before) return Promise.resolve();
      const message = "Something was written to the source while it was compared: what the copy holds is not all.";
      return Promise.reject(new StorageError(message));
    },
    release: () => Promise.resolve(void connection.close()),
  };
}
