/** Reads one state of the database in bounded steps; snapshot.ts says what each call promises. */

import { sql, type Kysely } from "kysely";

import { plainBytes } from "./bytes.js";
import { NewerDatabaseError, OlderDatabaseError } from "./database.js";
import { SCHEMAS, checkSchema } from "./migrations.js";
import { onKept } from "./kept-versions.js";
import { prepare, type Prepared } from "./prepared.js";
import type { StoreRef } from "./key-directory.js";
import {
  RECORD,
  ROW_TABLES,
  VERSION_COLUMNS,
  type PortableRow,
  type RecordRow,
  type RowTable,
  type VersionRow,
} from "./portable.js";
import { StorageError } from "./record-store.js";
import type { Schema } from "./schema.js";
import type { Snapshot, RecordSummary } from "./snapshot.js";
import { read, type SqlEngine } from "./sql-engine.js";

/** Rows per step. A record may have a thousand versions. */
const ROWS = 500;
const RECORDS = 200;

const RECORD_COLUMNS = Object.keys(RECORD.columns) as (keyof RecordRow)[];

/** What a dialect gives: a connection of its own, and a transaction on it in which all reads see one state. */
export interface SnapshotEngine extends Pick<
  SqlEngine,
  "reader" | "readTimes" | "retryOf" | "toStorageError" | "close"
> {
  /** Begins the transaction; it ends with the connection. */
  begin(): Promise<void> | void;
  /** The namespace of the tables, in a database that has several. */
  schema?: string;
}

/** @throws {NewerDatabaseError | OlderDatabaseError | StorageError}; the engine is closed then. */
export async function createSnapshot(engine: SnapshotEngine): Promise<Snapshot> {
  try {
    await engine.begin();
    await checkSchema(engine.reader, engine.schema);
  } catch (error) {
    await engine.close();
    if (error instanceof NewerDatabaseError || error instanceof OlderDatabaseError) throw error;
    throw engine.toStorageError(error, false);
  }
  const bodyQuery = prepareBodyQuery(engine.reader);
  return {
    schema: SCHEMAS.at(-1) ?? "",
    // The columns of each table are those that its type has.
    rows: (table) => scanRows(engine, table) as unknown as AsyncGenerator<never>,
    records: (project, store) => scanRecords(engine, project, store),
    async body(record, version) {
      const { rows } = await read(engine, (db) => db.executeQuery(bodyQuery({ record, version })));
      if (rows[0] === undefined) throw new StorageError("A row is gone from under its snapshot.");
      return plainBytes(rows[0].body);
    },
    bodies: (first, last) => keptBodies(engine, first, last),
    storesWithRecords: () => scanStores(engine),
    async countVersions() {
      const count = (db: Kysely<Schema>) =>
        db.selectFrom("record_versions").select((eb) => eb.fn.countAll<number>().as("rows"));
      return (await read(engine, (db) => count(db).executeTakeFirstOrThrow())).rows;
    },
    close: () => engine.close(),
  };
}

/** The same tables with columns of any name: theirs are data here. */
type AnyTables = Record<string, Record<string, PortableRow[string]>>;

async function* scanRows(engine: SnapshotEngine, name: RowTable): AsyncGenerator<PortableRow> {
  const key: readonly string[] = ROW_TABLES[name].key;
  let after: PortableRow | undefined;
  for (;;) {
    const from = after;
    const rows = await read(engine, (db) => {
      let query = (db as unknown as Kysely<AnyTables>).selectFrom(name).select(Object.keys(ROW_TABLES[name].columns));
      if (from !== undefined) {
        const values = sql.join(key.map((column) => from[column]));
        query = query.where(sql<boolean>`(${sql.join(key.map((column) => sql.ref(column)))}) > (${values})`);
      }
      for (const column of key) query = query.orderBy(column);
      return query.limit(ROWS).execute();
    });
    yield* rows;
    after = rows.at(-1);
    if (rows.length < ROWS) return;
  }
}

/** From one store to the next by the index, past the records of each. */
async function* scanStores(engine: SnapshotEngine): AsyncGenerator<StoreRef> {
  let last: StoreRef = { project: "", store: "" };
  for (;;) {
    const { project, store } = last;
    const found = await read(engine, (db) =>
      db
        .selectFrom("records")
        .select(["project", "store"])
        .where((eb) => eb(eb.refTuple("project", "store"), ">", eb.tuple(project, store)))
        .orderBy("project")
        .orderBy("store")
        .limit(1)
        .executeTakeFirst(),
    );
    if (found === undefined) return;
    yield found;
    last = found;
  }
}

async function* scanRecords(engine: SnapshotEngine, project: string, store: string): AsyncGenerator<RecordSummary> {
  let after: Uint8Array = new Uint8Array(0);
  for (;;) {
    const from = after;
    const records = await read(engine, (db) =>
      db
        .selectFrom("records")
        .select(RECORD_COLUMNS)
        .where("project", "=", project)
        .where("store", "=", store)
        .where("record_id", ">", from)
        .orderBy("record_id")
        .limit(RECORDS)
        .execute(),
    );
    const last = records.at(-1);
    if (last === undefined) return;
    const versions = await keptVersions(engine, last, from);
    for (const record of records) yield { ...record, versions: versions.get(idOf(record)) ?? [] };
    after = last.record_id;
    if (records.length < RECORDS) return;
  }
}

/** The kept versions of the records after `from` up to `last`, by record id. */
async function keptVersions(
  engine: SnapshotEngine,
  last: RecordRow,
  from: Uint8Array,
): Promise<Map<string, VersionRow[]>> {
  const rows = await read(engine, (db) =>
    selectKept(db, last)
      .where("r.record_id", ">", from)
      .select(["v.record_id", ...VERSION_COLUMNS.map((name) => `v.${name}` as const)])
      .select(sql<number>`length(v.body)`.as("size"))
      .execute(),
  );
  const versions = new Map<string, VersionRow[]>();
  for (const { record_id, ...version } of rows) {
    const id = idOf({ record_id });
    const kept = versions.get(id);
    if (kept === undefined) versions.set(id, [version]);
    else kept.push(version);
  }
  return versions;
}

/** The kept versions of a store's records up to `last`, in order. */
function selectKept(db: Kysely<Schema>, last: RecordRow) {
  return db
    .selectFrom("records as r")
    .innerJoin("record_versions as v", onKept)
    .where("r.project", "=", last.project)
    .where("r.store", "=", last.store)
    .where("r.record_id", "<=", last.record_id)
    .orderBy("r.record_id")
    .orderBy("v.version");
}

async function keptBodies(engine: SnapshotEngine, first: RecordRow, last: RecordRow): Promise<Uint8Array[]> {
  const rows = await read(engine, (db) =>
    selectKept(db, last).where("r.record_id", ">=", first.record_id).select("v.body").execute(),
  );
  return rows.map(({ body }) => plainBytes(body));
}

function idOf({ record_id }: Pick<RecordRow, "record_id">): string {
  return Buffer.from(record_id).toString("latin1");
}

function prepareBodyQuery(db: Kysely<Schema>): Prepared<{ record: RecordRow; version: number }, { body: Uint8Array }> {
  return prepare((slot) =>
    db
      .selectFrom("record_versions")
      .select("body")
      .where(
        "project",
        "=",
        slot(({ record }) => record.project),
      )
      .where(
        "store",
        "=",
        slot(({ record }) => record.store),
      )
      .where(
        "record_id",
        "=",
        slot(({ record }) => record.record_id),
      )
      .where(
        "version",
        "=",
        slot(({ version }) => version),
      ),
  );
}
