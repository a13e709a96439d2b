/**
 * Every write goes through this one queue. Writes that wait at the same time share a transaction, so that one fsync
 * serves them all, and no two transactions can interleave on the writer's connection, which Kysely does not prevent.
 */

import { setImmediate } from "node:timers/promises";

import type { Transaction } from "kysely";

import { StorageError } from "./record-store.js";
import type { Schema } from "./schema.js";
import type { SqlEngine } from "./sql-engine.js";

/** A group is closed when its weights reach this: about 250 small writes, or one large value. */
const GROUP_WEIGHT = 1_048_576;

interface Job {
  weight: number;
  /** Does the writing and returns what to call once it is durable. */
  run(transaction: Transaction<Schema>): Promise<() => void>;
  reject(error: StorageError): void;
}

export class WriteQueue {
  readonly #engine: SqlEngine;
  #waiting: Job[] = [];
  #draining: Promise<void> | null = null;
  #closed = false;

  constructor(engine: SqlEngine) {
    this.#engine = engine;
  }

  /**
   * Runs `work` in a transaction and resolves with its result once that is durable. Work that refuses must do so before
   * it writes, and by its result: whatever it throws rolls back its whole group. `weight` is in bytes, roughly; without
   * it the work has a transaction to itself.
   * @throws {StorageError}
   */
  run<T>(work: (transaction: Transaction<Schema>) => Promise<T>, weight = GROUP_WEIGHT): Promise<T> {
    if (this.#closed) return Promise.reject(new StorageError("The database is closed."));
    return new Promise((resolve, reject) => {
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

  /** Resolves when everything that was accepted is done. Nothing is accepted any more. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#draining;
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      // Lets the rest of this turn's requests join, and other work have its turn between two groups.
      await setImmediate();
      await this.#runGroup(this.#takeGroup());
    }
    this.#draining = null;
  }

  #takeGroup(): Job[] {
    let weight = 0;
    let size = 0;
    for (const job of this.#waiting) {
      weight += job.weight;
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
