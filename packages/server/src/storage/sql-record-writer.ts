/** Applies one commit inside a transaction: first every check, then every write; record-store.ts § commit. */

import { MAX_VERSION } from "@tacenda/protocol";
import type { CompiledQuery, Kysely, Transaction } from "kysely";

import { prepare, type Prepared, type Slot } from "./prepared.js";
import { StaleKeyError, compareRefs, type CommitResult, type RecordRef, type WriteOperation } from "./record-store.js";
import type { Schema } from "./schema.js";
import { VersionPurge, type Budget } from "./version-purge.js";

/** An operation and its place in the commit as it was given. */
export interface NumberedOperation {
  index: number;
  operation: WriteOperation;
}

type VersionWrite = WriteOperation & Required<Pick<WriteOperation, "write">>;

/** An operation, and the version from which on the record is kept then. */
type StateWrite = WriteOperation & { keptFrom: number };

interface CurrentRow {
  version: number;
  protected: number;
  active: number;
  kept_from: number;
}

/** What a transaction deletes at most, however many commits share it: as much as it may write. */
const DROPS: Budget = { rows: 256, bytes: 1_048_576 };

export class RecordWriter {
  readonly #acceptsWrites: Prepared<WriteOperation, { version: number }>;
  readonly #current: Prepared<RecordRef, CurrentRow>;
  readonly #insertRecord: Prepared<StateWrite, unknown>;
  readonly #updateRecord: Prepared<StateWrite, unknown>;
  readonly #insertVersion: Prepared<VersionWrite, unknown>;
  readonly #purge: VersionPurge;
  readonly #budgets = new WeakMap<Transaction<Schema>, Budget>();

  constructor(db: Kysely<Schema>) {
    this.#acceptsWrites = prepare((slot) => selectKey(db, slot));
    this.#current = prepare((slot) => selectCurrent(db, slot));
    this.#insertRecord = prepare((slot) => insertRecord(db, slot));
    this.#updateRecord = prepare((slot) => updateRecord(db, slot));
    this.#insertVersion = prepare((slot) => insertVersion(db, slot));
    this.#purge = new VersionPurge(db);
  }

  /** Writes everything, or nothing and says why. Throws only what the driver throws. */
  async apply(
    transaction: Transaction<Schema>,
    operations: readonly NumberedOperation[],
  ): Promise<CommitResult | StaleKeyError> {
    for (const { operation } of operations) {
      if (operation.keyVersion === undefined) continue;
      if ((await first(transaction, this.#acceptsWrites(operation))) === undefined) {
        return new StaleKeyError("The store's data key no longer accepts writes. Fetch its keys anew, then try again.");
      }
    }
    const conflicts: number[] = [];
    const writes: { operation: WriteOperation; keptFrom: number }[] = [];
    for (const { index, operation } of operations) {
      const current = await first(transaction, this.#current(operation.ref));
      if (!isExpected(current, operation.expect)) conflicts.push(index);
      writes.push({ operation, keptFrom: current?.kept_from ?? 1 });
    }
    if (conflicts.length > 0) return { applied: false, conflicts: conflicts.sort((a, b) => a - b) };
    for (const { operation, keptFrom } of writes) await this.#write(transaction, operation, keptFrom);
    return { applied: true };
  }

  /** `keptBefore`: the version from which on the record was kept so far. */
  async #write(transaction: Transaction<Schema>, operation: WriteOperation, keptBefore: number): Promise<void> {
    const { ref, expect, next, write, purgeEarlier, keepVersions } = operation;
    const keptFrom = Math.max(keptBefore, purgeEarlier === true ? next.version : next.version - keepVersions + 1);
    const state = { ...operation, keptFrom };
    await transaction.executeQuery(expect === null ? this.#insertRecord(state) : this.#updateRecord(state));
    if (write !== undefined) await transaction.executeQuery(this.#insertVersion({ ...operation, write }));
    if (keptFrom === keptBefore) return;
    await this.#purge.dropOrNote(transaction, { ...ref, upTo: keptFrom - 1 }, this.#budgetOf(transaction));
  }

  #budgetOf(transaction: Transaction<Schema>): Budget {
    const budget = this.#budgets.get(transaction) ?? { ...DROPS };
    this.#budgets.set(transaction, budget);
    return budget;
  }
}

/**
 * The operations in the order of their ids, which is the order in which every commit locks them.
 * @throws {RangeError} when an id comes twice, or versions and counts are not what WriteOperation says.
 */
export function inIdOrder(operations: readonly WriteOperation[]): NumberedOperation[] {
  for (const operation of operations) checkOperation(operation);
  const ordered = operations
    .map((operation, index) => ({ index, operation }))
    .sort((a, b) => compareRefs(a.operation.ref, b.operation.ref));
  for (const [place, { operation }] of ordered.entries()) {
    const before = ordered[place - 1];
    if (before && compareRefs(before.operation.ref, operation.ref) === 0) {
      throw new RangeError("A commit can write each record only once.");
    }
  }
  return ordered;
}

function checkOperation({ expect, next, write, keepVersions }: WriteOperation): void {
  if (!Number.isSafeInteger(next.version) || next.version < 1 || next.version > MAX_VERSION) {
    throw new RangeError("A version is an integer from 1 to 2^53−1.");
  }
  // Of a new id any first version may be written: a copy from another database keeps the versions it had.
  const expected = expect === null ? next.version - 1 : expect.version;
  if (next.version !== expected + (write === undefined ? 0 : 1)) {
    throw new RangeError("A write makes the version after the expected one; without one the version stays.");
  }
  if (!Number.isSafeInteger(keepVersions) || keepVersions < 1) {
    throw new RangeError("A record keeps at least one version.");
  }
}

function isExpected(current: CurrentRow | undefined, expect: WriteOperation["expect"]): boolean {
  if (current === undefined || expect === null) return current === undefined && expect === null;
  return (
    current.version === expect.version &&
    (current.protected !== 0) === expect.protected &&
    (current.active !== 0) === expect.active
  );
}

async function first<Row>(transaction: Transaction<Schema>, query: CompiledQuery<Row>): Promise<Row | undefined> {
  return (await transaction.executeQuery(query)).rows[0];
}

function selectKey(db: Kysely<Schema>, slot: Slot<WriteOperation>) {
  return db
    .selectFrom("store_keys")
    .select("version")
    .where(
      "project",
      "=",
      slot(({ ref }) => ref.project),
    )
    .where(
      "store",
      "=",
      slot(({ ref }) => ref.store),
    )
    .where("purpose", "=", "data")
    .where(
      "version",
      "=",
      slot(({ keyVersion }) => keyVersion ?? 0),
    )
    .where("state", "=", "active");
}

function selectCurrent(db: Kysely<Schema>, slot: Slot<RecordRef>) {
  return db
    .selectFrom("records")
    .select(["version", "protected", "active", "kept_from"])
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
    );
}

function insertRecord(db: Kysely<Schema>, slot: Slot<StateWrite>) {
  return db.insertInto("records").values({
    project: slot(({ ref }) => ref.project),
    store: slot(({ ref }) => ref.store),
    record_id: slot(({ ref }) => ref.id),
    ...stateColumns(slot),
  });
}

function updateRecord(db: Kysely<Schema>, slot: Slot<StateWrite>) {
  return db
    .updateTable("records")
    .set(stateColumns(slot))
    .where(
      "project",
      "=",
      slot(({ ref }) => ref.project),
    )
    .where(
      "store",
      "=",
      slot(({ ref }) => ref.store),
    )
    .where(
      "record_id",
      "=",
      slot(({ ref }) => ref.id),
    );
}

function stateColumns(slot: Slot<StateWrite>) {
  return {
    version: slot(({ next }) => next.version),
    protected: slot(({ next }) => (next.protected ? 1 : 0)),
    active: slot(({ next }) => (next.active ? 1 : 0)),
    tag: slot(({ next }) => next.tag ?? null),
    kept_from: slot(({ keptFrom }) => keptFrom),
  };
}

function insertVersion(db: Kysely<Schema>, slot: Slot<VersionWrite>) {
  return db.insertInto("record_versions").values({
    project: slot(({ ref }) => ref.project),
    store: slot(({ ref }) => ref.store),
    record_id: slot(({ ref }) => ref.id),
    version: slot(({ next }) => next.version),
    key_version: slot(({ keyVersion }) => keyVersion ?? null),
    body: slot(({ write }) => write.body),
    created_at: slot(({ write }) => write.createdAt),
    expires_at: slot(({ write }) => write.expiresAt),
  });
}
