/**
 * Every write goes through this queue. Commits that wait at the same time share a transaction, so that one fsync serves them
 * all; when the database can do it, several such transactions run at once. Administration comes in between in its turn:
 * what was asked for before is done before, and what was asked for after, after.
 */

import type { Transaction } from "kysely";

import { StorageBusyError, StorageError } from "./record-store.js";
import type { Schema } from "./schema.js";
import { PATIENCE, pause } from "./patience.js";
import type { Isolation, Retry, SqlEngine } from "./sql-engine.js";
import { WriteJob, type GroupWork } from "./write-job.js";

/** A group is closed when its weights reach this: about 250 small writes, or one large value. */
const GROUP_WEIGHT = 1_048_576;
/** Most weight that may wait or be under way: what a slow disk writes in about a second, and all that a flood can hold. */
const MAX_WEIGHT = 67_108_864;
/** How often a transaction is tried that others came in the way of. */
const CONFLICTS = 8;
/** As PATIENCE, for what has a transaction to itself, from its begin: administration, and work in the background. */
const PATIENCE_ALONE = 10_000;

/** Somebody has been told that nothing was written. The others can have it done anew. */
class GivenUpError extends Error {}

/** There is nothing to commit: rolls back, and carries the results. */
class NothingWritten extends Error {
  readonly results: readonly unknown[];
  constructor(results: readonly unknown[]) {
    super();
    this.results = results;
  }
}

export class WriteQueue {
  readonly #engine: SqlEngine;
  #waiting: WriteJob[] = [];
  /** Transactions under way; of them, whether one has to run alone. */
  #running = 0;
  #isAlone = false;
  /** Whether a look at what waits is due. */
  #isWoken = false;
  /** The end of the work in the background, which runs one after the other beside the rest. */
  #background: Promise<void> = Promise.resolve();
  #idle: (() => void)[] = [];
  #closed = false;
  /** Of the jobs that wait or are under way. */
  #weight = 0;

  constructor(engine: SqlEngine) {
    this.#engine = engine;
  }

  /**
   * Runs `work` in a transaction of its own and resolves with its result once that is durable. It is always accepted: nobody
   * can ask for much of it at once. As GroupWork it may be run again.
   * @throws {StorageBusyError | StorageError}
   */
  run<T>(work: (transaction: Transaction<Schema>) => Promise<T>): Promise<T> {
    return this.#accept<null, T>(alone(work), null, null, "serializable");
  }

  /**
   * The same for work in the background, which need not come in its turn and is right in any order with commits: because each
   * of its statements checks by itself what it relies on, or has locked it.
   */
  inBackground<T>(work: (transaction: Transaction<Schema>) => Promise<T>): Promise<T> {
    return this.#accept<null, T>(alone(work), null, null, "read committed");
  }

  /**
   * Runs `work` on this item and on others that wait for the same. Work that refuses an item must do so before it writes
   * anything of it, and by its result: whatever it throws rolls back the whole group. `weight` is in bytes, roughly. This
   * is settled within LIMIT, whatever the database does.
   * @throws {StorageBusyError} when there is no room for its weight, or it was not done in time; nothing was written.
   * @throws {StorageError} of unknown outcome when the COMMIT takes too long.
   */
  share<Item, Result>(work: GroupWork<Item, Result>, item: Item, weight: number): Promise<Result> {
    if (this.#weight > 0 && this.#weight + weight > MAX_WEIGHT) return Promise.reject(new StorageBusyError());
    return this.#accept(work, item, weight, "read committed");
  }

  /** Runs `work` between two transactions, when those that wait now are done. What it throws is its own. */
  async between<T>(work: () => T): Promise<T> {
    await this.run(() => Promise.resolve());
    // The next transaction begins in another turn, and work awaits nothing.
    return work();
  }

  /** Resolves when everything that was accepted is done. Nothing is accepted any more. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#running + this.#waiting.length > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
    await this.#background;
  }

  #accept<Item, Result>(
    work: GroupWork<Item, Result>,
    item: Item,
    weight: number | null,
    isolation: Isolation,
  ): Promise<Result> {
    if (this.#closed) return Promise.reject(new StorageError("The database is closed."));
    const options = { work: work as GroupWork<unknown, unknown>, item, weight, isolation };
    const job = new WriteJob(options, (late) => this.#forget(late));
    if (weight === null && isolation === "read committed" && this.#engine.writers > 1) {
      this.#background = this.#background.then(() => this.#runGroup([job]));
    } else {
      this.#weight += weight ?? 0;
      this.#waiting.push(job);
      this.#wakeUp();
    }
    return job.settled as Promise<Result>;
  }

  /** What is under way goes on, and is looked at before its COMMIT. */
  #forget(job: WriteJob): void {
    const place = this.#waiting.indexOf(job);
    if (place < 0) return;
    this.#waiting.splice(place, 1);
    this.#weight -= job.options.weight ?? 0;
  }

  /** In another turn: the rest of this one's requests can join, and other work has its own between two groups. */
  #wakeUp(): void {
    if (this.#isWoken) return;
    this.#isWoken = true;
    setImmediate(() => {
      this.#isWoken = false;
      this.#begin();
    });
  }

  #begin(): void {
    while (this.#waiting.length > 0 && !this.#isAlone && this.#running < this.#engine.writers) {
      const isAlone = this.#waiting[0]?.options.weight === null;
      if (isAlone && this.#running > 0) return;
      this.#isAlone = isAlone;
      this.#running++;
      void this.#finish(this.#takeGroup());
    }
  }

  async #finish(group: readonly WriteJob[]): Promise<void> {
    await this.#runGroup(group);
    for (const { options } of group) this.#weight -= options.weight ?? 0;
    this.#running--;
    this.#isAlone = false;
    if (this.#waiting.length > 0) this.#wakeUp();
    else if (this.#running === 0) for (const resolve of this.#idle) resolve();
  }

  #takeGroup(): WriteJob[] {
    const work = this.#waiting[0]?.options.work;
    let weight = 0;
    let size = 0;
    for (const { options } of this.#waiting) {
      weight += options.weight ?? GROUP_WEIGHT;
      if (size > 0 && (weight > GROUP_WEIGHT || options.work !== work)) break;
      size++;
    }
    return this.#waiting.splice(0, size);
  }

  /** Settles every job of the group. */
  async #runGroup(jobs: readonly WriteJob[]): Promise<void> {
    const deadline = deadlineOf(jobs);
    let conflicts = 0;
    for (let count = 1; ; count++) {
      const group = jobs.filter(({ isSettled }) => !isSettled);
      const failure = await this.#attempt(group);
      if (failure === null) return;
      const { error, retry } = failure;
      if (retry === "given up") continue;
      if (retry === "conflict") conflicts++;
      const isOver = performance.now() > deadline;
      if (retry === null || isOver || conflicts === CONFLICTS) {
        // What one of them runs into need not be in the way of the others.
        if (retry === "conflict" && group.length > 1 && !isOver) for (const job of group) await this.#runGroup([job]);
        else for (const job of group) job.reject(isOver && retry !== null ? tooLate(error) : error);
        return;
      }
      await pause(count);
    }
  }

  /** Null when it is done, and every job has its result. */
  async #attempt(
    group: readonly WriteJob[],
  ): Promise<{ error: StorageError; retry: Retry | "given up" | null } | null> {
    const [first] = group;
    if (first === undefined) return null;
    const { work, isolation } = first.options;
    let committing = false;
    try {
      const results = await this.#engine.transaction(isolation).execute(async (transaction) => {
        const { results: done, wrote } = await work(
          transaction,
          group.map(({ options }) => options.item),
        );
        if (!wrote) throw new NothingWritten(done);
        if (group.some(({ isSettled }) => isSettled)) throw new GivenUpError();
        for (const job of group) job.isCommitting = true;
        committing = true;
        return done;
      });
      resolveAll(group, results);
      return null;
    } catch (error) {
      if (error instanceof NothingWritten) {
        resolveAll(group, error.results);
        return null;
      }
      for (const job of group) job.isCommitting = false;
      const retry = error instanceof GivenUpError ? "given up" : this.#engine.retryOf(error, committing);
      return { error: this.#engine.toStorageError(error, committing), retry };
    }
  }
}

/** The work of one item. Most of it writes, and whether it has is not known here. */
function alone<T>(work: (transaction: Transaction<Schema>) => Promise<T>): GroupWork<null, T> {
  return async (transaction) => ({ results: [await work(transaction)], wrote: true });
}

function resolveAll(group: readonly WriteJob[], results: readonly unknown[]): void {
  for (const [index, job] of group.entries()) job.resolve(results[index]);
}

/** What comes in the way of a write for as long as that need not be a fault, whatever the database calls it. */
function tooLate(error: StorageError): StorageError {
  return new StorageBusyError("The database is busy or away. Nothing was written. Try again.", { cause: error.cause });
}

/** After which no further attempt begins, by the process's own clock. */
function deadlineOf(jobs: readonly WriteJob[]): number {
  if (jobs.some(({ options }) => options.weight === null)) return performance.now() + PATIENCE_ALONE;
  return Math.min(...jobs.map(({ acceptedAt }) => acceptedAt)) + PATIENCE;
}
