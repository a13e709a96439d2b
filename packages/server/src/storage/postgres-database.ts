/**
 * The SQL storage on PostgreSQL. Apart from postgres.ts, so that the driver is loaded only where there is such a database, and
 * its types are in no declaration that the package exports.
 */

import { setTimeout as sleep } from "node:timers/promises";

import { Kysely, sql, type QueryResult } from "kysely";

import type { Database } from "./database.js";
import { migrate, type SqlTypes } from "./migrations.js";
import { setClosed } from "./postgres-closing.js";
import { asOne, postgresDialect, type Sessions } from "./postgres-dialect.js";
import { ConnectionLostError, retryOf, toStorageError } from "./postgres-errors.js";
import { PostgresPool } from "./postgres-pool.js";
import { checkFiles, type Session } from "./postgres-session.js";
import type { PostgresUrl } from "./postgres-url.js";
import { StorageError } from "./record-store.js";
import type { Schema } from "./schema.js";
import type { Snapshot } from "./snapshot.js";
import { createDatabase } from "./sql-database.js";
import { UNHURRIED } from "./sql-engine.js";
import { createSnapshot } from "./sql-snapshot.js";

/** Of all connections, how many write at the same time at most. Beyond, they wait for the same disk. */
const MAX_WRITERS = 4;
/** Milliseconds: longer than servers go on with keys of a store that was destroyed, and that their clocks may differ. */
const DESTROYED_ROWS_STAY = 10_000;
/** Number of the lock that who changes the tables holds: "tacenda" as bytes. */
const MIGRATION_LOCK = 0x74616365_6e6461n;
/** Of the lock that a restore holds. */
const RESTORE_LOCK = MIGRATION_LOCK + 1n;
/** So long one that was killed may take to let go of it, in milliseconds. */
const RESTORE_WAIT = 3_000;
const RESTORE_POLL = 50;

const TYPES: SqlTypes = {
  integer: "bigint",
  bytes: "bytea",
  text: sql`text collate "C"`,
  tableOptions: "",
  clusteredOptions: "",
  tuning: [
    // Bodies are noise: trying to compress them is work for nothing.
    "alter table record_versions alter column body set storage external",
    // Room for the next state of a record in the page of the present one, which then changes no index.
    "alter table records set (fillfactor = 85)",
    // Versions come and go as fast as they are written; a fifth of a large table is too much to let pile up.
    "alter table records set (autovacuum_vacuum_scale_factor = 0.02)",
    "alter table record_versions set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05)",
  ],
};

/** @throws as openPostgres does */
export async function createPostgresDatabase(url: PostgresUrl, connections: number): Promise<Database> {
  checkFiles(url);
  const pool = new PostgresPool({ url, kind: "traffic", writes: true }, connections);
  const db = new Kysely<Schema>({ dialect: postgresDialect(pool) });
  return await createDatabase({
    reader: db,
    // The others are for reads, for administration and for work in the background.
    writers: Math.max(1, Math.min(MAX_WRITERS, connections - 2)),
    destroyedRowsStay: DESTROYED_ROWS_STAY,
    clock: sql<number>`(extract(epoch from clock_timestamp()) * 1000)::bigint`,
    transaction: (isolation) => db.transaction().setIsolationLevel(isolation),
    migrate: () => migrateAlone(url),
    async executeAll(transaction, queries) {
      if (queries.length === 0) return [];
      return (await transaction.executeQuery<QueryResult<unknown>>(asOne(queries))).rows;
    },
    async lockStoreKeys(transaction) {
      // Not row by row: commits share locks on a row without queueing, so that under load it would never be free. Before a
      // lock on the table everybody queues. Readers, who lock nothing, go on.
      await sql`lock table store_keys in exclusive mode`.execute(transaction);
    },
    setClosed,
    retryOf,
    toStorageError,
    scrub() {
      // There is nothing to do. What was deleted is in dead rows until vacuum comes by, and in the write-ahead log, its archive
      // and the standbys for as long as those are kept; no command overwrites it. Of records that is noise without the store's
      // keys, and of those it is wraps that need the master key: docs/postgresql.md § What is left of what was deleted.
    },
    diskUse: () => null,
    close: () => pool.close(),
  });
}

/** While one server changes the tables, others that start wait, and then find it done. */
async function migrateAlone(url: PostgresUrl): Promise<void> {
  const pool = new PostgresPool({ url, kind: "long", writes: true }, 4);
  try {
    const db = new Kysely<Schema>({ dialect: postgresDialect(pool) });
    await db.connection().execute(async (holder) => {
      // It ends with the connection, whatever becomes of this process.
      await sql`select pg_advisory_lock(${sql.lit(MIGRATION_LOCK)})`.execute(holder);
      try {
        await migrate(db, TYPES, await schemaOf(db));
      } finally {
        await sql`select pg_advisory_unlock(${sql.lit(MIGRATION_LOCK)})`.execute(holder).catch(() => undefined);
      }
    });
  } finally {
    await pool.close();
  }
}

/** @throws as openPostgresSnapshot does */
export async function createPostgresSnapshot(url: PostgresUrl): Promise<Snapshot> {
  checkFiles(url);
  const pool = new PostgresPool({ url, kind: "long", writes: url.targets === "primary" }, 1);
  const session = await pool.acquire();
  const reader = new Kysely<Schema>({ dialect: postgresDialect(onlyOf(session)) });
  const close = async () => {
    pool.release(session);
    await pool.close();
  };
  let schema: string;
  try {
    schema = await schemaOf(reader);
  } catch (error) {
    await close();
    throw toStorageError(error, false);
  }
  return await createSnapshot({
    reader,
    readTimes: UNHURRIED,
    schema,
    // Every statement of the transaction sees what was committed before its first one.
    async begin() {
      await session.client.query("begin isolation level repeatable read read only");
    },
    // Another connection would see another state.
    retryOf: () => null,
    toStorageError,
    close,
  });
}

/** This connection and no other, also when it is lost: another one would see another state. */
function onlyOf(session: Session): Sessions {
  return {
    acquire: () => (session.isBroken ? Promise.reject(new ConnectionLostError()) : Promise.resolve(session)),
    release() {
      // It stays with its owner.
    },
    forgetIdle() {
      session.isBroken = true;
    },
  };
}

/** Keeps other restores and copies from the database until `release` is called or the process ends. @throws {StorageError} */
export async function lockForRestore(url: PostgresUrl): Promise<{ release(): Promise<void> }> {
  checkFiles(url);
  const pool = new PostgresPool({ url, kind: "long", writes: true }, 1);
  try {
    const session = await pool.acquire();
    pool.release(session);
    const lock = `select pg_try_advisory_lock(${RESTORE_LOCK}) as locked`;
    const deadline = Date.now() + RESTORE_WAIT;
    for (;;) {
      const { rows } = await session.client.query<{ locked: boolean }>(lock);
      if (rows[0]?.locked === true) break;
      if (Date.now() > deadline) throw new StorageError("Another restore or copy into this database is under way.");
      await sleep(RESTORE_POLL);
    }
    return { release: () => pool.close() };
  } catch (error) {
    await pool.close();
    throw toStorageError(error, false);
  }
}

/** Client sessions of the database that are not of the URL's `application_name`. @throws {StorageError} */
export async function otherSessions(url: PostgresUrl): Promise<(string | null)[]> {
  checkFiles(url);
  const pool = new PostgresPool({ url, kind: "traffic", writes: false }, 1);
  try {
    // Of sessions of other users some columns are null, or tell nothing. Workers of the server itself have no user.
    const { rows } = await sql<{ name: string | null }>`
      select nullif(application_name, '') as name from pg_stat_activity
      where datname = current_database() and usesysid is not null and coalesce(backend_type, 'client backend') = 'client backend'
        and application_name is distinct from ${url.applicationName}`.execute(
      new Kysely<Schema>({ dialect: postgresDialect(pool) }),
    );
    return rows.map(({ name }) => name);
  } catch (error) {
    throw toStorageError(error, false);
  } finally {
    await pool.close();
  }
}

/** The namespace in which this user's tables are. */
async function schemaOf(db: Kysely<Schema>): Promise<string> {
  const { rows } = await sql<{ name: string | null }>`select current_schema() as name`.execute(db);
  if (rows[0]?.name != null) return rows[0].name;
  throw new StorageError(
    "There is no schema for the tables: the search_path of the database user names none that exists. Make one, or set it.",
  );
}
