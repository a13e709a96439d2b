/** What a dialect file gives the SQL storage; all the rest is the same for every database. */

import type { Kysely } from "kysely";

import type { SqlTypes } from "./migrations.js";
import type { StorageError } from "./record-store.js";
import type { Schema } from "./schema.js";

export interface SqlEngine {
  /** Runs single statements; each sees everything that was committed before it, and nothing that was not. */
  reader: Kysely<Schema>;
  /** Runs transactions that no other writer can come between. Only migrations and the write queue use it. */
  writer: Kysely<Schema>;
  types: SqlTypes;
  /**
   * The storage error for what the driver threw. `committing`: it came from COMMIT itself, so that the outcome may be
   * unknown.
   */
  toStorageError(error: unknown, committing: boolean): StorageError;
  /**
   * Overwrites what deletions have left in the database's own log, unless somebody still reads from it: then what is left goes
   * with a later call. Called between transactions.
   */
  scrub(): void;
  close(): void;
}

/** Runs `query` on the reader. @throws {StorageError} */
export async function read<T>(
  engine: Pick<SqlEngine, "reader" | "toStorageError">,
  query: (db: Kysely<Schema>) => Promise<T>,
): Promise<T> {
  try {
    return await query(engine.reader);
  } catch (error) {
    throw engine.toStorageError(error, false);
  }
}
