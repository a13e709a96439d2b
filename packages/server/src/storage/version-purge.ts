/**
 * Deletes versions that are not kept any more, in amounts that hold nobody else up. What is left over for lack of room in
 * one transaction is noted in the table `purges`, for the background to go on with; record-store.ts § WriteOperation.
 */

import { sql, type Kysely, type Transaction } from "kysely";

import { prepare, type Prepared, type Slot } from "./prepared.js";
import type { RecordRef } from "./record-store.js";
import type { Schema } from "./schema.js";

/** What may still be deleted in a transaction. The last row may take `bytes` below zero. */
export interface Budget {
  rows: number;
  bytes: number;
}

interface Range extends RecordRef {
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
  readonly #oldest: Prepared<Range & { limit: number }, Oldest>;
  readonly #delete: Prepared<Range, unknown>;
  readonly #note: Prepared<RecordRef, unknown>;

  constructor(db: Kysely<Schema>) {
    this.#oldest = prepare((slot) => selectOldest(db, slot));
    this.#delete = prepare((slot) => deleteRange(db, slot));
    this.#note = prepare((slot) => insertPurge(db, slot));
  }

  /** Deletes a record's versions up to `upTo`, the oldest first, as far as the budget goes. True when none are left. */
  async drop(transaction: Transaction<Schema>, range: Range, budget: Budget): Promise<boolean> {
    if (isSpent(budget)) return false;
    const { rows } = await transaction.executeQuery(this.#oldest({ ...range, limit: budget.rows }));
    let last = 0;
    for (const { version, size } of rows) {
      if (isSpent(budget)) break;
      budget.rows--;
      budget.bytes -= size;
      last = version;
    }
    if (last > 0) await transaction.executeQuery(this.#delete({ ...range, upTo: last }));
    return last === (rows.at(-1)?.version ?? 0) && budget.rows > 0;
  }

  /** The same, and notes what is left. */
  async dropOrNote(transaction: Transaction<Schema>, range: Range, budget: Budget): Promise<void> {
    if (!(await this.drop(transaction, range, budget))) await transaction.executeQuery(this.#note(range));
  }
}

function selectOldest(db: Kysely<Schema>, slot: Slot<Range & { limit: number }>) {
  return db
    .selectFrom("record_versions")
    .select(["version", sql<number>`length(body)`.as("size")])
    .where(
      "project",
      "=",
      slot(({ project }) => project),
    )
    .where(
      "store",
      "=",
      slot(({ store }) => store),
    )
    .where(
      "record_id",
      "=",
      slot(({ id }) => id),
    )
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
    .where(
      "project",
      "=",
      slot(({ project }) => project),
    )
    .where(
      "store",
      "=",
      slot(({ store }) => store),
    )
    .where(
      "record_id",
      "=",
      slot(({ id }) => id),
    )
    .where(
      "version",
      "<=",
      slot(({ upTo }) => upTo),
    );
}

function insertPurge(db: Kysely<Schema>, slot: Slot<RecordRef>) {
  return db
    .insertInto("purges")
    .values({
      project: slot(({ project }) => project),
      store: slot(({ store }) => store),
      record_id: slot(({ id }) => id),
    })
    .onConflict((conflict) => conflict.doNothing());
}
