/** Records in SQL: reads in one statement, conditional writes in shared transactions; record-store.ts has the promises. */

import { sql, type Kysely } from "kysely";

import { plainBytes } from "./bytes.js";
import { onKept } from "./kept-versions.js";
import { prepare, recordKey, type Prepared, type Slot } from "./prepared.js";
import {
  StaleKeyError,
  type CommitResult,
  type ReadRef,
  type RecordRef,
  type RecordState,
  type RecordStore,
  type RecordVersions,
  type StoredRecord,
  type WriteOperation,
} from "./record-store.js";
import { ReadQueue } from "./read-queue.js";
import type { Schema } from "./schema.js";
import { read, type SqlEngine } from "./sql-engine.js";
import { inIdOrder, RecordWriter, type NumberedOperation } from "./sql-record-writer.js";
import type { GroupWork } from "./write-job.js";
import type { WriteQueue } from "./write-queue.js";

/** Most refs of one read. */
const MAX_REFS = 256;
/** Weight of an operation beside its body: what its rows and index entries write. */
const OPERATION_WEIGHT = 4_096;
/** Matches nothing, for no project has an empty id. Fills a read up to a size whose query is compiled. */
const NOTHING: ReadRef = { project: "", store: "", id: new Uint8Array(0) };

interface StateRow {
  current: number;
  protected: number;
  active: number;
  tag: Uint8Array | null;
}

interface ReadRow extends StateRow {
  /** Index of the ref that this row answers. */
  position: number;
  kept: number | null;
  body: Uint8Array | null;
  created_at: number | null;
}

interface VersionRow extends StateRow {
  version: number | null;
  created_at: number | null;
  size: number | null;
}

type ReadQuery = Prepared<readonly ReadRef[], ReadRow>;

export class SqlRecordStore implements RecordStore {
  readonly #engine: SqlEngine;
  readonly #queue: WriteQueue;
  readonly #writer: RecordWriter;
  /** One and the same for all commits, so that they can share transactions. */
  readonly #apply: GroupWork<readonly NumberedOperation[], CommitResult | StaleKeyError>;
  /** Compiled queries by number of refs, a power of two. */
  readonly #queries = new Map<number, ReadQuery>();

  readonly #reads = new ReadQueue((refs) => this.#readAll(refs), MAX_REFS);
  readonly #versionsQuery: Prepared<RecordRef, VersionRow>;

  constructor(engine: SqlEngine, queue: WriteQueue) {
    this.#engine = engine;
    this.#queue = queue;
    this.#writer = new RecordWriter(engine);
    this.#apply = (transaction, commits) => this.#writer.apply(transaction, commits);
    this.#versionsQuery = prepare((slot) => selectVersions(engine.reader, slot));
  }

  async read(refs: readonly ReadRef[]): Promise<(StoredRecord | null)[]> {
    if (refs.length > MAX_REFS) throw new RangeError(`Read at most ${MAX_REFS} records at once.`);
    if (refs.length === 0) return [];
    return await this.#reads.read(refs);
  }

  async #readAll(refs: readonly ReadRef[]): Promise<(StoredRecord | null)[]> {
    const query = this.#queryFor(refs.length)(refs);
    const { rows } = await read(this.#engine, (db) => db.executeQuery(query));
    const found = new Array<StoredRecord | null>(refs.length).fill(null);
    for (const row of rows) found[row.position] = toStoredRecord(row);
    return found;
  }

  async versions(ref: RecordRef): Promise<RecordVersions | null> {
    const query = this.#versionsQuery(ref);
    const { rows } = await read(this.#engine, (db) => db.executeQuery(query));
    const [row] = rows;
    if (row === undefined) return null;
    const versions = rows.flatMap(({ version, created_at: createdAt, size }) =>
      version !== null && createdAt !== null && size !== null ? [{ version, createdAt, size }] : [],
    );
    return { current: toState(row), versions };
  }

  async commit(operations: readonly WriteOperation[]): Promise<CommitResult> {
    const ordered = inIdOrder(operations);
    const weight = operations.reduce((sum, { write }) => sum + OPERATION_WEIGHT + (write?.body.length ?? 0), 0);
    const outcome = await this.#queue.share(this.#apply, ordered, weight);
    if (outcome instanceof StaleKeyError) throw outcome;
    return outcome;
  }

  #queryFor(refCount: number): ReadQuery {
    const size = 2 ** Math.ceil(Math.log2(refCount));
    let query = this.#queries.get(size);
    if (query === undefined) {
      query = prepare((slot) => selectAll(this.#engine.reader, slot, size));
      this.#queries.set(size, query);
    }
    return query;
  }
}

/** All refs in one statement, which sees one committed state. */
function selectAll(db: Kysely<Schema>, slot: Slot<readonly ReadRef[]>, size: number) {
  let query = selectOne(db, slot, 0);
  for (let position = 1; position < size; position++) query = query.unionAll(selectOne(db, slot, position));
  return query;
}

/**
 * A record and one of its versions. `limit 1` changes nothing, for the key is unique, but keeps SQLite from folding the
 * subquery into the join: a join on parameters is planned again at every run, which takes three times as long as this.
 */
function selectOne(db: Kysely<Schema>, slot: Slot<readonly ReadRef[]>, position: number) {
  const refOf = (refs: readonly ReadRef[]) => refs[position] ?? NOTHING;
  const record = db
    .selectFrom("records")
    .selectAll()
    .where((eb) => eb.and(recordKey(slot, refOf)))
    .limit(sql.lit(1));
  return db
    .selectFrom(record.as("r"))
    .leftJoin("record_versions as v", (join) =>
      join
        .onRef("v.project", "=", "r.project")
        .onRef("v.store", "=", "r.store")
        .onRef("v.record_id", "=", "r.record_id")
        .onRef("v.version", ">=", "r.kept_from")
        .on("v.version", "=", (eb) =>
          eb.fn.coalesce(
            slot((refs) => refOf(refs).version ?? null),
            "r.version",
          ),
        ),
    )
    .select((eb) => [
      eb.lit(position).as("position"),
      "r.version as current",
      "r.protected",
      "r.active",
      "r.tag",
      "v.version as kept",
      "v.body",
      "v.created_at",
    ]);
}

/** The versions of a record; one row without a version when it has lost them all. */
function selectVersions(db: Kysely<Schema>, slot: Slot<RecordRef>) {
  const key = recordKey(slot, (ref) => ref);
  return db
    .selectFrom("records as r")
    .leftJoin("record_versions as v", onKept)
    .where((eb) => eb.and({ "r.project": key.project, "r.store": key.store, "r.record_id": key.record_id }))
    .orderBy("v.version", "desc")
    .select([
      "r.version as current",
      "r.protected",
      "r.active",
      "r.tag",
      "v.version",
      "v.created_at",
      sql<number | null>`length(v.body)`.as("size"),
    ]);
}

function toState(row: StateRow): RecordState {
  return {
    version: row.current,
    protected: row.protected !== 0,
    active: row.active !== 0,
    ...(row.tag && { tag: plainBytes(row.tag) }),
  };
}

function toStoredRecord(row: ReadRow): StoredRecord {
  const { kept, body, created_at: createdAt } = row;
  return {
    current: toState(row),
    kept: kept !== null && body && createdAt !== null ? { version: kept, body: plainBytes(body), createdAt } : null,
  };
}
