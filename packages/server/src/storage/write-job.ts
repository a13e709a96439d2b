/** One piece of work in the write queue. It is settled once; what shares transactions with others is settled in time. */

import type { Transaction } from "kysely";

import { StorageBusyError, StorageError } from "./record-store.js";
import type { Schema } from "./schema.js";
import { LIMIT } from "./patience.js";
import type { Isolation } from "./sql-engine.js";

export interface GroupResults<Result> {
  /** In the order of the items. */
  results: readonly Result[];
  /** Whether anything was written. If not, the transaction is rolled back: a COMMIT may wait for the disk and for a standby. */
  wrote: boolean;
}

/**
 * Does the work of several items in one transaction. It may be run again from its begin after a rollback: what it changes
 * outside the transaction must not depend on how often it ran.
 */
export type GroupWork<Item, Result> = (
  transaction: Transaction<Schema>,
  items: readonly Item[],
) => Promise<GroupResults<Result>>;

interface JobOptions {
  /** Jobs with the same work can share a transaction. */
  work: GroupWork<unknown, unknown>;
  item: unknown;
  /** In bytes, roughly; null for what has a transaction to itself, and takes the time that it takes. */
  weight: number | null;
  isolation: Isolation;
}

export class WriteJob {
  readonly options: JobOptions;
  /** By the process's own clock. */
  readonly acceptedAt = performance.now();
  /** Of the transaction that it has a part in, COMMIT is under way. Before that, it can still be called off. */
  isCommitting = false;
  /** Rejects with a StorageError only. */
  readonly settled: Promise<unknown>;
  #isSettled = false;
  #resolve: (result: unknown) => void = () => undefined;
  #reject: (error: StorageError) => void = () => undefined;
  #timer: NodeJS.Timeout | undefined;

  /** `onLate`: it was given up, and nobody waits for it any more. */
  constructor(options: JobOptions, onLate: (job: WriteJob) => void) {
    this.options = options;
    this.settled = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    if (options.weight === null) return;
    this.#timer = setTimeout(() => {
      this.reject(this.isCommitting ? unconfirmed() : tooLate());
      onLate(this);
    }, LIMIT);
  }

  get isSettled(): boolean {
    return this.#isSettled;
  }

  resolve(result: unknown): void {
    this.#settle();
    this.#resolve(result);
  }

  reject(error: StorageError): void {
    this.#settle();
    this.#reject(error);
  }

  #settle(): void {
    this.#isSettled = true;
    clearTimeout(this.#timer);
  }
}

function tooLate(): StorageError {
  return new StorageBusyError("The database took too long. Nothing was written. Try again.");
}

function unconfirmed(): StorageError {
  return new StorageError("The database has not confirmed a commit in time. Whether it will be made is not known.", {
    outcome: "unknown",
  });
}
