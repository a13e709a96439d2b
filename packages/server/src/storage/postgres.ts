/** PostgreSQL as the database of one server or of several; docs/postgresql.md. The driver is loaded with the first call. */

import type { Database } from "./database.js";
import { parsePostgresUrl } from "./postgres-url.js";
import type { HeldWrites } from "./restoration.js";
import type { Snapshot } from "./snapshot.js";

/** Connections of one server, unless it is told otherwise. */
const DEFAULT_DATABASE_CONNECTIONS = 10;

/**
 * Opens the database, bringing its tables up to date as needed. `connections`: at most so many at once.
 * @throws {NewerDatabaseError} when a newer program made the tables; they are left as they are.
 * @throws {InvalidOptionError} when the URL is not valid.
 * @throws {StorageError} when there is no connection, or the database is not safe to use.
 */
export async function openPostgres(url: string, connections = DEFAULT_DATABASE_CONNECTIONS): Promise<Database> {
  const parsed = parsePostgresUrl(url);
  const { createPostgresDatabase } = await import("./postgres-database.js");
  return await createPostgresDatabase(parsed, connections);
}

/**
 * The database as it is now, for as long as it takes, on a connection of its own. Meanwhile vacuum cannot remove what others
 * delete.
 * @throws {NewerDatabaseError | OlderDatabaseError} when its tables are not those of this program.
 * @throws {InvalidOptionError | StorageError}
 */
export async function openPostgresSnapshot(url: string): Promise<Snapshot> {
  const parsed = parsePostgresUrl(url);
  const { createPostgresSnapshot } = await import("./postgres-database.js");
  return await createPostgresSnapshot(parsed);
}

/**
 * The programs that are connected to the database besides those of the URL's `application_name`, by the names they give
 * themselves; null for those of which this user may not see it. @throws {StorageError}
 */
export async function listOthers(url: string): Promise<(string | null)[]> {
  const parsed = parsePostgresUrl(url);
  const { otherSessions } = await import("./postgres-database.js");
  return await otherSessions(parsed);
}

/** Keeps other restores from the database until `release` is called or the process ends. @throws {StorageError} */
export async function lockPostgresForRestore(url: string): Promise<{ release(): Promise<void> }> {
  const parsed = parsePostgresUrl(url);
  const { lockForRestore } = await import("./postgres-database.js");
  return await lockForRestore(parsed);
}

/** Keeps writes, of whoever, from the database until `release` is called or the connection is lost. @throws {StorageError} */
export async function holdPostgresWrites(url: string): Promise<HeldWrites> {
  const parsed = parsePostgresUrl(url);
  const { lockAgainstWrites } = await import("./postgres-closing.js");
  return await lockAgainstWrites(parsed);
}
