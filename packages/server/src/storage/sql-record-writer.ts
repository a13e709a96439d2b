/** Applies commits inside a transaction: first every check, then every write; record-store.ts § commit. */

import { MAX_VERSION } from "@tacenda/protocol";
import type { CompiledQuery, Kysely, Transaction } from "kysely";

import { prepare, recordKey, type Prepared, type Slot } from "./prepared.js";
import { StaleKeyError, compareRefs, type CommitResult, type RecordRef, type WriteOperation } from "./record-store.js";
import type { Schema } from "./schema.js";
import type { SqlEngine } from "./sql-engine.js";
import type { GroupResults } from "./write-job.js";
import { VersionPurge, type Budget, type Range } from "./version-purge.js";

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

/** Matches nothing, for no project has an empty id. Fills a query up to its size. */
const NOTHING: RecordRef = { project: "", store: "", id: new Uint8Array(0) };

/** What a transaction deletes at most, however many commits share it: as much as it may write. */
const DROPS: Budget = { rows: 256, bytes: 1_048_576 };

type WriterEngine = Pick<SqlEngine, "executeAll" | "reader" | "writers">;

/** A record that was not there when it was looked for was made before it could be. The transaction is to be run again. */
export class CreationRaceError extends Error {
  override name = "CreationRaceError";
}

/**
 * Several commits share a transaction, and it takes as few round trips as it can: one to lock and read all that they rely on,
 * one to write, a third to delete what is not kept any more.
 *
 * Why this is serializable where other transactions run at the same time, at the level read committed:
 * - A data key's row is locked for share, and read when it is. Whoever retires or deletes it waits for that lock (or has been
 *   waited for), so no write is committed under a key after the commit that retired it.
 * - A record's row is locked for update, and read when it is. From then on nobody else changes the record or its versions
 *   before this transaction ends; so what was checked still holds as it is written.
 * - A record that is not there cannot be locked. Its insertion waits for another one of the same id, finds it, and does
 *   nothing; then the whole transaction is rolled back and run anew, and finds the record.
 * - So what is written is right. A refusal writes nothing, and is asked again whether what it says was true at one moment.
 * - All transactions lock records that are there in the order of their ids, and afterwards insert records in that order, so
 *   two of them never wait for each other. (A transaction that inserts waits for none that still locks.)
 */
export class RecordWriter {
  readonly #engine: WriterEngine;
  readonly #acceptsWrites: Prepared<WriteOperation, { version: number }>;
  readonly #current: Prepared<RecordRef, CurrentRow>;
  readonly #insertRecord: Prepared<StateWrite, unknown>;
  readonly #updateRecord: Prepared<StateWrite, unknown>;
  readonly #insertVersion: Prepared<VersionWrite, unknown>;
  readonly #purge: VersionPurge;

  /** Compiled queries by number of refs, a power of two. */
  readonly #present = new Map<number, Prepared<readonly RecordRef[], unknown>>();

  constructor(engine: WriterEngine) {
    const db = engine.reader;
    this.#engine = engine;
    this.#acceptsWrites = prepare((slot) => selectKey(db, slot));
    this.#current = prepare((slot) => selectCurrent(db, slot));
    this.#insertRecord = prepare((slot) => insertRecord(db, slot));
    this.#updateRecord = prepare((slot) => updateRecord(db, slot));
    this.#insertVersion = prepare((slot) => insertVersion(db, slot));
    this.#purge = new VersionPurge(engine);
  }

  /** Of each commit writes everything, or nothing and says why. @throws what the driver throws, and CreationRaceError */
  async apply(
    transaction: Transaction<Schema>,
    commits: readonly (readonly NumberedOperation[])[],
  ): Promise<GroupResults<CommitResult | StaleKeyError>> {
    const state = await this.#lockAndRead(transaction, commits);
    const absent = new Set([...state.records].filter(([, row]) => row === undefined).map(([name]) => name));
    const writes: StateWrite[] = [];
    const drops = new Map<string, Range>();
    const results = commits.map((operations) => judge(operations, state, writes, drops));
    for (const [index, result] of results.entries()) {
      if (this.#engine.writers > 1 && isRefusal(result)) await this.#confirm(transaction, commits[index] ?? [], absent);
    }
    // Stable: of one record the writes stay in the order of their commits.
    writes.sort((a, b) => compareRefs(a.ref, b.ref));
    await this.#write(transaction, writes);
    if (drops.size > 0) await this.#purge.dropOrNote(transaction, [...drops.values()], { ...DROPS });
    return { results, wrote: writes.length > 0 };
  }

  async #lockAndRead(
    transaction: Transaction<Schema>,
    commits: readonly (readonly NumberedOperation[])[],
  ): Promise<State> {
    const keys = new Map<string, WriteOperation>();
    const records = new Map<string, RecordRef>();
    for (const { operation } of commits.flat()) {
      if (operation.keyVersion !== undefined) keys.set(keyName(operation), operation);
      records.set(recordName(operation.ref), operation.ref);
    }
    const ordered = [...records].sort(([, a], [, b]) => compareRefs(a, b));
    const rows = await this.#engine.executeAll(transaction, [
      ...[...keys.values()].map((operation) => this.#acceptsWrites(operation)),
      ...ordered.map(([, ref]) => this.#current(ref)),
    ]);
    const found = rows.map((result) => result.rows[0]);
    return {
      keys: new Set([...keys.keys()].filter((_, index) => found[index] !== undefined)),
      records: new Map(ordered.map(([name], index) => [name, found[keys.size + index] as CurrentRow | undefined])),
    };
  }

  /**
   * Makes sure that a refusal is of one state: records that were there are locked, and so still as they were; those that were
   * not are looked for again, all at one moment.
   */
  async #confirm(
    transaction: Transaction<Schema>,
    operations: readonly NumberedOperation[],
    absent: ReadonlySet<string>,
  ): Promise<void> {
    if (operations.length === 1) return;
    const refs = operations.map(({ operation }) => operation.ref).filter((ref) => absent.has(recordName(ref)));
    if (refs.length === 0) return;
    const size = 2 ** Math.ceil(Math.log2(refs.length));
    const query = this.#present.get(size) ?? prepare((slot) => selectPresent(this.#engine.reader, slot, size));
    this.#present.set(size, query);
    const { rows } = await transaction.executeQuery(query(refs));
    if (rows.length > 0) throw new CreationRaceError();
  }

  async #write(transaction: Transaction<Schema>, writes: readonly StateWrite[]): Promise<void> {
    const queries: CompiledQuery[] = [];
    const creations: number[] = [];
    for (const operation of writes) {
      const { expect, write } = operation;
      if (expect === null) creations.push(queries.length);
      queries.push(expect === null ? this.#insertRecord(operation) : this.#updateRecord(operation));
      if (write !== undefined) queries.push(this.#insertVersion({ ...operation, write }));
    }
    if (queries.length === 0) return;
    const results = await this.#engine.executeAll(transaction, queries);
    if (creations.some((index) => results[index]?.numAffectedRows !== 1n)) throw new CreationRaceError();
  }
}

/** What commits rely on, as it is after those that were judged before. */
interface State {
  /** Data keys that accept writes. */
  keys: ReadonlySet<string>;
  records: Map<string, CurrentRow | undefined>;
}

/** The verdict on one commit. What it writes is added to `writes` and `drops`, and is in the state from then on. */
function judge(
  operations: readonly NumberedOperation[],
  { keys, records }: State,
  writes: StateWrite[],
  drops: Map<string, Range>,
): CommitResult | StaleKeyError {
  for (const { operation } of operations) {
    if (operation.keyVersion !== undefined && !keys.has(keyName(operation))) {
      return new StaleKeyError("The store's data key no longer accepts writes. Fetch its keys anew, then try again.");
    }
  }
  const conflicts = operations
    .filter(({ operation }) => !isExpected(records.get(recordName(operation.ref)), operation.expect))
    .map(({ index }) => index);
  if (conflicts.length > 0) return { applied: false, conflicts: conflicts.sort((a, b) => a - b) };
  for (const { operation } of operations) {
    const { ref, next, purgeEarlier, keepVersions } = operation;
    const name = recordName(ref);
    const keptBefore = records.get(name)?.kept_from ?? 1;
    const keptFrom = Math.max(keptBefore, purgeEarlier === true ? next.version : next.version - keepVersions + 1);
    writes.push({ ...operation, keptFrom });
    if (keptFrom !== keptBefore) drops.set(name, { ...ref, upTo: keptFrom - 1 });
    records.set(name, {
      version: next.version,
      protected: next.protected ? 1 : 0,
      active: next.active ? 1 : 0,
      kept_from: keptFrom,
    });
  }
  return { applied: true };
}

function isRefusal(result: CommitResult | StaleKeyError): boolean {
  return !(result instanceof StaleKeyError) && !result.applied;
}

/** No id has a slash. */
function recordName({ project, store, id }: RecordRef): string {
  return `${project}/${store}/${Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString("latin1")}`;
}

function keyName({ ref, keyVersion }: WriteOperation): string {
  return `${ref.project}/${ref.store}/${keyVersion ?? ""}`;
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
    .where("state", "=", "active")
    .forShare();
}

function selectCurrent(db: Kysely<Schema>, slot: Slot<RecordRef>) {
  return db
    .selectFrom("records")
    .select(["version", "protected", "active", "kept_from"])
    .where((eb) => eb.and(recordKey(slot, (ref) => ref)))
    .forUpdate();
}

/** A row for each record that is there. */
function selectPresent(db: Kysely<Schema>, slot: Slot<readonly RecordRef[]>, size: number) {
  const one = (position: number) =>
    db
      .selectFrom("records")
      .select("version")
      .where((eb) => eb.and(recordKey(slot, (refs) => refs[position] ?? NOTHING)));
  let query = one(0);
  for (let position = 1; position < size; position++) query = query.unionAll(one(position));
  return query;
}

function insertRecord(db: Kysely<Schema>, slot: Slot<StateWrite>) {
  return db
    .insertInto("records")
    .values({
      ...recordKey(slot, ({ ref }) => ref),
      ...stateColumns(slot),
    })
    .onConflict((conflict) => conflict.doNothing());
}

function updateRecord(db: Kysely<Schema>, slot: Slot<StateWrite>) {
  return db
    .updateTable("records")
    .set(stateColumns(slot))
    .where((eb) => eb.and(recordKey(slot, ({ ref }) => ref)));
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
    ...recordKey(slot, ({ ref }) => ref),
    version: slot(({ next }) => next.version),
    key_version: slot(({ keyVersion }) => keyVersion ?? null),
    body: slot(({ write }) => write.body),
    created_at: slot(({ write }) => write.createdAt),
    expires_at: slot(({ write }) => write.expiresAt),
  });
}
