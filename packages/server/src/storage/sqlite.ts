/** The embedded database: the SQL storage on one SQLite file, by one connection that writes and one that reads. */

import type { Database } from "./database.js";
import { openConnection } from "./sqlite-connection.js";
import { createSqliteDatabase } from "./sqlite-database.js";

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
