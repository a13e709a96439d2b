/**
 * Every write goes through this queue. Commits that wait at the same time share a transaction, so that one fsync serves them
 * all; when the database can do it, several such transactions run at once. Administration comes in between in its turn:
 * what was asked for before is done before, and what was asked for after, after.
 */

import { setTimeout as sleep } from "node:timers/promises";

import type { Transaction } from "kysely";

import { StorageBusyError, StorageError } from "./record-store.js";
import type { Schema } from "./schema.js";
import type { Isolation, Retry, SqlEngine } from "./sql-engine.js";

/** A group is closed when its weights reach this: about 250 small writes, or one large value. */
const GROUP_WEIGHT = 1_048_576;
/** Most weight that may wait or be under way: what a slow disk writes in about a second, and all that a flood can hold. */
const MAX_WEIGHT = 67_108_864;
/** How often a transaction is tried that others came in the way of, or whose connection was lost. */
const ATTEMPTS: Readonly<Record<Retry, number>> = { conflict: 8, away: 4, busy: Infinity };
/** Milliseconds after which no further attempt begins. */
const PATIENCE: Readonly<Record<Retry, number>> = { conflict: 10_000, away: 10_000, busy: 5_000 };
/** The longest pause before the second attempt, in milliseconds; it doubles with each one, up to the limit. */
const PAUSE = 10;
const MAX_PAUSE: Readonly<Record<Retry, number>> = { conflict: 500, away: 500, busy: 50 };

/**
 * Does the work of several items in one transaction, and gives their results in their order. It may be run again from its
 * begin after a rollback: what it changes outside the transaction must not depend on how often it ran.
 */
export type GroupWork<Item, Result> = (
  transaction: Transaction<Schema>,
  items: readonly Item[],
) => Promise<readonly Result[]>;

interface Job {
  /** Jobs with the same work can share a transaction. */
  work: GroupWork<unknown, unknown>;
  item: unknown;
  /** In bytes, roughly; null for what has a transaction to itself. */
  weight: number | null;
  isolation: Isolation;
  resolve(result: unknown): void;
  reject(error: StorageError): void;
}

export class WriteQueue {
  readonly #engine: SqlEngine;
  #waiting: Job[] = [];
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
    return this.#accept<null, T>(async (transaction) => [await work(transaction)], null, null, "serializable");
  }

  /**
   * The same for work in the background, which need not come in its turn and is right in any order with commits: because each
   * of its statements checks by itself what it relies on, or has locked it.
   */
  inBackground<T>(work: (transaction: Transaction<Schema>) => Promise<T>): Promise<T> {
    return this.#accept<null, T>(async (transaction) => [await work(transaction)], null, null, "read committed");
  }

  /**
   * Runs `work` on this item and on others that wait for the same. Work that refuses an item must do so before it writes
   * anything of it, and by its result: whatever it throws rolls back the whole group. `weight` is in bytes, roughly.
   * @throws {StorageBusyError} when there is no room for its weight; the work was not begun.
   * @throws {StorageError}
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
    return new Promise((resolve, reject) => {
      const job = { work, item, weight, isolation, resolve, reject } as Job;
      if (weight === null && isolation === "read committed" && this.#engine.writers > 1) {
        this.#background = this.#background.then(() => this.#runGroup([job]));
        return;
      }
      this.#weight += weight ?? 0;
      this.#waiting.push(job);
      this.#wakeUp();
    });
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
      const isAlone = this.#waiting[0]?.weight === null;
      if (isAlone && this.#running > 0) return;
      this.#isAlone = isAlone;
      this.#running++;
      void this.#finish(this.#takeGroup());
    }
  }

  async #finish(group: readonly Job[]): Promise<void> {
    await this.#runGroup(group);
    for (const job of group) this.#weight -= job.weight ?? 0;
    this.#running--;
    this.#isAlone = false;
    if (this.#waiting.length > 0) this.#wakeUp();
    else if (this.#running === 0) for (const resolve of this.#idle) resolve();
  }

  #takeGroup(): Job[] {
    const work = this.#waiting[0]?.work;
    let weight = 0;
    let size = 0;
    for (const job of this.#waiting) {
      weight += job.weight ?? GROUP_WEIGHT;
      if (size > 0 && (weight > GROUP_WEIGHT || job.work !== work)) break;
      size++;
    }
    return this.#waiting.splice(0, size);
  }

  /** Settles every job of the group. */
  async #runGroup(group: readonly Job[]): Promise<void> {
    const begun = performance.now();
    for (let attempt = 1; ; attempt++) {
      const failure = await this.#attempt(group);
      if (failure === null) return;
      const { error, retry } = failure;
      if (retry === null) {
        rejectAll(group, error);
        return;
      }
      const isOver = performance.now() - begun > PATIENCE[retry];
      if (isOver || attempt >= ATTEMPTS[retry]) {
        // What one of them runs into need not be in the way of the others.
        if (retry === "conflict" && group.length > 1 && !isOver) for (const job of group) await this.#runGroup([job]);
        else rejectAll(group, error);
        return;
      }
      await sleep(Math.min(PAUSE * 2 ** (attempt - 1), MAX_PAUSE[retry]) * Math.random());
    }
  }

  /** Null when it is done, and every job has its result. */
  async #attempt(group: readonly Job[]): Promise<{ error: StorageError; retry: Retry | null } | null> {
    const [first] = group;
    if (first === undefined) return null;
    let committing = false;
    try {
      const results = await this.#engine.transaction(first.isolation).execute(async (transaction) => {
        const done = await first.work(
          transaction,
          group.map(({ item }) => item),
        );
        committing = true;
        return done;
      });
      for (const [index, job] of group.entries()) job.resolve(results[index]);
      return null;
    } catch (error) {
      const retry = this.#engine.retryOf(error, committing);
      return { error: this.#engine.toStorageError(error, committing), retry };
    }
  }
}

function rejectAll(group: readonly Job[], error: StorageError): void {
  for (const job of group) job.reject(error);
}
