/**
 * Deletes versions that are not kept any more, in amounts that hold nobody else up. What is left over for lack of room in
 * one transaction is noted in the table `purges`, for the background to go on with; record-store.ts § WriteOperation.
 */

import { sql, type CompiledQuery, type Kysely, type Transaction } from "kysely";

import { prepare, recordKey, type Prepared, type Slot } from "./prepared.js";
import type { RecordRef } from "./record-store.js";
import type { Schema } from "./schema.js";
import type { SqlEngine } from "./sql-engine.js";

/** What may still be deleted in a transaction. The last row may take `bytes` below zero. */
export interface Budget {
  rows: number;
  bytes: number;
}

export interface Range extends RecordRef {
  /** The highest version to delete. */
  upTo: number;
}

interface Oldest {
  version: number;
  size: number;
}

/** Whether nothing more may be deleted. */
export function isSpent({ rows, bytes }: Budget): boolean {
  return rows <= 0 || bytes <= 0;
}

export class VersionPurge {
  readonly #engine: Pick<SqlEngine, "executeAll">;
  readonly #oldest: Prepared<Range & { limit: number }, Oldest>;
  readonly #delete: Prepared<Range, unknown>;
  readonly #note: Prepared<RecordRef, unknown>;

  constructor(engine: Pick<SqlEngine, "executeAll" | "reader">) {
    this.#engine = engine;
    this.#oldest = prepare((slot) => selectOldest(engine.reader, slot));
    this.#delete = prepare((slot) => deleteRange(engine.reader, slot));
    this.#note = prepare((slot) => insertPurge(engine.reader, slot));
  }

  /** Deletes a record's versions up to `upTo`, the oldest first, as far as the budget goes. True when none are left. */
  async drop(transaction: Transaction<Schema>, range: Range, budget: Budget): Promise<boolean> {
    const [isDone = false] = await this.#drop(transaction, [range], budget, false);
    return isDone;
  }

  /** The same for several records one after the other, and notes of which some are left. */
  async dropOrNote(transaction: Transaction<Schema>, ranges: readonly Range[], budget: Budget): Promise<void> {
    await this.#drop(transaction, ranges, budget, true);
  }

  async #drop(
    transaction: Transaction<Schema>,
    ranges: readonly Range[],
    budget: Budget,
    takesNotes: boolean,
  ): Promise<boolean[]> {
    const limit = Math.max(budget.rows, 0);
    const looked = isSpent(budget) ? [] : ranges.map((range) => this.#oldest({ ...range, limit }));
    const found = await this.#engine.executeAll(transaction, looked);
    const queries: CompiledQuery[] = [];
    const done = ranges.map((range, index) => {
      const { last, isDone } = spend(budget, (found[index]?.rows ?? []) as Oldest[]);
      if (last > 0) queries.push(this.#delete({ ...range, upTo: last }));
      if (!isDone && takesNotes) queries.push(this.#note(range));
      return isDone;
    });
    if (queries.length > 0) await this.#engine.executeAll(transaction, queries);
    return done;
  }
}

/** Takes a record's oldest rows from the budget: up to which version, and whether none are left then. */
function spend(budget: Budget, rows: readonly Oldest[]): { last: number; isDone: boolean } {
  if (isSpent(budget)) return { last: 0, isDone: false };
  let last = 0;
  for (const { version, size } of rows) {
    if (isSpent(budget)) break;
    budget.rows--;
    budget.bytes -= size;
    last = version;
  }
  // As many rows as there was room for may not be all.
  return { last, isDone: last === (rows.at(-1)?.version ?? 0) && budget.rows > 0 };
}

function selectOldest(db: Kysely<Schema>, slot: Slot<Range & { limit: number }>) {
  return db
    .selectFrom("record_versions")
    .select(["version", sql<number>`length(body)`.as("size")])
    .where((eb) => eb.and(recordKey(slot, (ref) => ref)))
    .where(
      "version",
      "<=",
      slot(({ upTo }) => upTo),
    )
    .orderBy("version")
    .limit(slot(({ limit }) => limit));
}

function deleteRange(db: Kysely<Schema>, slot: Slot<Range>) {
  return db
    .deleteFrom("record_versions")
    .where((eb) => eb.and(recordKey(slot, (ref) => ref)))
    .where(
      "version",
      "<=",
      slot(({ upTo }) => upTo),
    );
}

/**
 * A note that is there already is locked and stays: whoever is about to delete it, having done what it knew of, has to come to
 * an end first, and it is made anew then. Without this a note could vanish under a commit that relies on it.
 */
function insertPurge(db: Kysely<Schema>, slot: Slot<RecordRef>) {
  return db
    .insertInto("purges")
    .values(recordKey(slot, (ref) => ref))
    .onConflict((conflict) =>
      conflict
        .columns(["project", "store", "record_id"])
        .doUpdateSet((eb) => ({ project: eb.ref("excluded.project") })),
    );
}
