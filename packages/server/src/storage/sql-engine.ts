/** What a dialect file gives the SQL storage; all the rest is the same for every database. */

import { setTimeout as sleep } from "node:timers/promises";

import type { CompiledQuery, Kysely, QueryResult, Transaction, TransactionBuilder } from "kysely";

import type { StorageError } from "./record-store.js";
import type { Schema } from "./schema.js";

/**
 * What a transaction can rely on while others run. `serializable`: as if it ran alone among all of this kind, or it fails and
 * is tried again. `read committed`: each statement sees what was committed before it, and rows that were read `for update` or
 * `for share` stay as they are until the end.
 */
export type Isolation = "serializable" | "read committed";

/**
 * Why trying again may help: another transaction came in the way, the connection was lost, or another process has the database
 * to itself.
 */
export type Retry = "conflict" | "away" | "busy";

export interface SqlEngine {
  /** Runs single statements; each sees everything that was committed before it, and nothing that was not. */
  reader: Kysely<Schema>;
  /** How many transactions may run at once. With one, nothing comes between two statements of a transaction. */
  writers: number;
  /** A transaction in a connection of its own. Only the write queue uses it. */
  transaction(isolation: Isolation): TransactionBuilder<Schema>;
  /** Brings the tables up to date, while no other server does. @throws {NewerDatabaseError} */
  migrate(): Promise<void>;
  /** Runs the queries in their order, in one round trip if the database can. Whatever one throws has ended all. */
  executeAll(transaction: Transaction<Schema>, queries: readonly CompiledQuery[]): Promise<QueryResult<unknown>[]>;
  /**
   * Waits for the transactions that have locked a row of `store_keys`, and keeps others from it until this one ends. It comes
   * before the first query of its transaction, which then sees what those others have written.
   */
  lockStoreKeys(transaction: Transaction<Schema>): Promise<void>;
  /** Whether what was thrown may go away by itself. `committing`: it came from COMMIT; null then if that may have worked. */
  retryOf(error: unknown, committing: boolean): Retry | null;
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
  close(): Promise<void>;
}

/** How long to wait, in milliseconds, before a read that met a lost connection is tried again. */
const READ_PAUSES = [20, 200];
/** Milliseconds after which no read is tried again: what it met took long, a lock for instance, and would do so again. */
const READ_PATIENCE = 4_000;

/** Runs `query` on the reader; again when the connection was lost, for reading twice does no harm. @throws {StorageError} */
export async function read<T>(
  engine: Pick<SqlEngine, "reader" | "retryOf" | "toStorageError">,
  query: (db: Kysely<Schema>) => Promise<T>,
): Promise<T> {
  const begun = performance.now();
  for (let attempt = 0; ; attempt++) {
    try {
      return await query(engine.reader);
    } catch (error) {
      const pause = performance.now() - begun < READ_PATIENCE ? READ_PAUSES[attempt] : undefined;
      if (pause === undefined || engine.retryOf(error, false) === null) throw engine.toStorageError(error, false);
      await sleep(pause * (0.5 + Math.random()));
    }
  }
}

/** For a database in this very process: there are no round trips to save. */
export async function executeInTurn(
  transaction: Transaction<Schema>,
  queries: readonly CompiledQuery[],
): Promise<QueryResult<unknown>[]> {
  const results: QueryResult<unknown>[] = [];
  for (const query of queries) results.push(await transaction.executeQuery(query));
  return results;
}
