/** What a dialect file gives the SQL storage; all the rest is the same for every database. */

import type { CompiledQuery, Kysely, QueryResult, RawBuilder, Transaction, TransactionBuilder } from "kysely";

import type { DiskUse } from "./database.js";
import { LIMIT, PATIENCE, pause } from "./patience.js";
import { StorageBusyError, type StorageError } from "./record-store.js";
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
  /** How long a read may take; those of requests when absent. */
  readTimes?: ReadTimes;
  /** How many transactions may run at once. With one, nothing comes between two statements of a transaction. */
  writers: number;
  /** The database's own clock, in milliseconds since the epoch: the one that all servers on it share. */
  clock: RawBuilder<number>;
  /** Milliseconds for which the rows of a destroyed store stay (maintenance.ts § purgeDue); 0 where there is one server. */
  destroyedRowsStay: number;
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
  /**
   * Makes the database itself refuse writes, or take them again, from the end of the transaction on (restoration.ts), unless
   * `replaceMark` is false; that is then the answer.
   */
  setClosed(transaction: Transaction<Schema>, isClosed: boolean, replaceMark: () => Promise<boolean>): Promise<boolean>;
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
  /** What is on the disk; null where the database is another system's to watch. */
  diskUse(): DiskUse | null;
  close(): Promise<void>;
}

interface ReadTimes {
  /** As PATIENCE. */
  patience: number;
  /** As LIMIT. */
  limit: number;
}

/** Of requests. */
const IN_TIME: ReadTimes = { patience: PATIENCE, limit: LIMIT };
/** Of work in the background, and of commands, which take the time that they take. */
export const UNHURRIED: ReadTimes = { patience: PATIENCE, limit: Infinity };
/** Of who asks whether the database can be used now. */
export const AT_ONCE: ReadTimes = { patience: 250, limit: LIMIT };

/**
 * Runs `query` on the reader; again when the connection was lost, for reading twice does no harm.
 * @throws {StorageError}
 */
export async function read<T>(
  engine: Pick<SqlEngine, "reader" | "retryOf" | "toStorageError" | "readTimes">,
  query: (db: Kysely<Schema>) => Promise<T>,
): Promise<T> {
  const { patience, limit } = engine.readTimes ?? IN_TIME;
  const begun = performance.now();
  for (let count = 1; ; count++) {
    try {
      return await within(query(engine.reader), begun + limit);
    } catch (error) {
      const isOver = performance.now() - begun > patience;
      if (isOver || engine.retryOf(error, false) === null) throw engine.toStorageError(error, false);
      await pause(count);
    }
  }
}

/** The answer, or StorageBusyError at `deadline`, a time of the process's own clock; what answers later is not heard any more. */
async function within<T>(answer: Promise<T>, deadline: number): Promise<T> {
  if (deadline === Infinity) return await answer;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    const give = () => reject(new StorageBusyError("The database does not answer in time. Try again."));
    timer = setTimeout(give, deadline - performance.now());
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
