/**
 * Every write goes through this one queue. Writes that wait at the same time share a transaction, so that one fsync
 * serves them all, and no two transactions can interleave on the writer's connection, which Kysely does not prevent.
 */

import { setImmediate } from "node:timers/promises";

import type { Transaction } from "kysely";

import { StorageBusyError, StorageError } from "./record-store.js";
import type { Schema } from "./schema.js";
import type { SqlEngine } from "./sql-engine.js";

/** A group is closed when its weights reach this: about 250 small writes, or one large value. */
const GROUP_WEIGHT = 1_048_576;
/** Most weight that may wait or be under way: what a slow disk writes in about a second, and all that a flood can hold. */
const MAX_WEIGHT = 67_108_864;

interface Job {
  /** In bytes, roughly; null for work that has a transaction to itself. */
  weight: number | null;
  /** Does the writing and returns what to call once it is durable. */
  run(transaction: Transaction<Schema>): Promise<() => void>;
  reject(error: StorageError): void;
}

export class WriteQueue {
  readonly #engine: SqlEngine;
  #waiting: Job[] = [];
  #draining: Promise<void> | null = null;
  #closed = false;
  /** Of the jobs that wait or are under way. */
  #weight = 0;

  constructor(engine: SqlEngine) {
    this.#engine = engine;
  }

  /**
   * Runs `work` in a transaction and resolves with its result once that is durable. Work that refuses must do so before
   * it writes, and by its result: whatever it throws rolls back its whole group. `weight` is in bytes, roughly. Without
   * it the work has a transaction to itself and is always accepted: nobody can ask for much of it at once.
   * @throws {StorageBusyError} when there is no room for its weight; the work was not begun.
   * @throws {StorageError}
   */
  run<T>(work: (transaction: Transaction<Schema>) => Promise<T>, weight: number | null = null): Promise<T> {
    if (this.#closed) return Promise.reject(new StorageError("The database is closed."));
    if (weight !== null && this.#weight > 0 && this.#weight + weight > MAX_WEIGHT) {
      return Promise.reject(new StorageBusyError());
    }
    return new Promise((resolve, reject) => {
      this.#weight += weight ?? 0;
      this.#waiting.push({
        weight,
        run: async (transaction) => {
          const result = await work(transaction);
          return () => resolve(result);
        },
        reject,
      });
      this.#draining ??= this.#drain();
    });
  }

  /** Runs `work` between two transactions, when those that wait now are done. What it throws is its own. */
  async between<T>(work: () => T): Promise<T> {
    await this.run(() => Promise.resolve());
    // Nothing is awaited since the queue let go of that transaction, and work awaits nothing.
    return work();
  }

  /** Resolves when everything that was accepted is done. Nothing is accepted any more. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#draining;
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      // Lets the rest of this turn's requests join, and other work have its turn between two groups.
      await setImmediate();
      const group = this.#takeGroup();
      await this.#runGroup(group);
      for (const job of group) this.#weight -= job.weight ?? 0;
    }
    this.#draining = null;
  }

  #takeGroup(): Job[] {
    let weight = 0;
    let size = 0;
    for (const job of this.#waiting) {
      weight += job.weight ?? GROUP_WEIGHT;
      if (size > 0 && weight > GROUP_WEIGHT) break;
      size++;
    }
    return this.#waiting.splice(0, size);
  }

  async #runGroup(group: readonly Job[]): Promise<void> {
    let committing = false;
    try {
      const acknowledgements = await this.#engine.writer.transaction().execute(async (transaction) => {
        const done: (() => void)[] = [];
        for (const job of group) done.push(await job.run(transaction));
        committing = true;
        return done;
      });
      for (const acknowledge of acknowledgements) acknowledge();
    } catch (error) {
      const fault = this.#engine.toStorageError(error, committing);
      for (const job of group) job.reject(fault);
    }
  }
}
