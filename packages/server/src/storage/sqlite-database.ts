/**
 * The SQL storage on two connections to one SQLite file. Apart from sqlite.ts, so that better-sqlite3's types, which
 * consumers lack, are in no declaration that the package exports.
 */

import { statSync } from "node:fs";

import BetterSqlite3 from "better-sqlite3";
import { Kysely, sql } from "kysely";

import type { Database } from "./database.js";
import { migrate, type SqlTypes } from "./migrations.js";
import { StorageError, StorageFullError } from "./record-store.js";
import type { Schema } from "./schema.js";
import type { Snapshot } from "./snapshot.js";
import { createDatabase } from "./sql-database.js";
import { UNHURRIED } from "./sql-engine.js";
import { createSnapshot } from "./sql-snapshot.js";
import { cacheStatements, executeNow, sqliteDialect } from "./sqlite-dialect.js";
import { SqliteLog } from "./sqlite-log.js";

const TYPES: SqlTypes = {
  integer: "integer",
  bytes: "blob",
  text: "text",
  tableOptions: "strict",
  clusteredOptions: "strict, without rowid",
  tuning: [],
};

/** The database behind two connections to one file, which it closes in the end. @throws as openSqlite does */
export async function createSqliteDatabase(
  writer: BetterSqlite3.Database,
  reader: BetterSqlite3.Database,
): Promise<Database> {
  const statements = cacheStatements(writer);
  const db = new Kysely<Schema>({ dialect: sqliteDialect(writer, statements) });
  const log = new SqliteLog(writer);
  return await createDatabase({
    reader: new Kysely<Schema>({ dialect: sqliteDialect(reader) }),
    // They end before a timer could.
    readTimes: UNHURRIED,
    // The file has one write lock.
    writers: 1,
    destroyedRowsStay: 0,
    clock: sql<number>`cast(unixepoch('subsec') * 1000 as integer)`,
    transaction: () => db.transaction(),
    async migrate() {
      await migrate(db, TYPES);
      // From now on whoever finds the file locked comes again: to wait for it in here would hold up everybody.
      writer.pragma("busy_timeout = 0");
      log.watch();
    },
    executeAll: (_, queries) => new Promise((resolve) => resolve(executeNow(statements, queries))),
    lockStoreKeys: () => Promise.resolve(),
    // The lock on the data directory keeps servers out, and the mark what writes beside them.
    setClosed: (_transaction, _isClosed, replaceMark) => replaceMark(),
    // A transaction has the whole file to itself: nobody can come in its way once it has begun.
    retryOf: (error, committing) => (!committing && isBusy(error) ? "busy" : null),
    toStorageError,
    scrub: () => log.truncate(),
    diskUse() {
      const ask = (pragma: string) => reader.pragma(pragma, { simple: true }) as number;
      return { database: statSync(writer.name).size, free: ask("freelist_count") * ask("page_size"), log: log.size };
    },
    async close() {
      await log.close();
      reader.close();
      writer.close();
    },
  });
}

/** A snapshot on a connection of its own, which it closes in the end. @throws as openSqliteSnapshot does */
export async function createSqliteSnapshot(connection: BetterSqlite3.Database): Promise<Snapshot> {
  return await createSnapshot({
    reader: new Kysely<Schema>({ dialect: sqliteDialect(connection) }),
    // In WAL mode a transaction sees what was committed before its first read, and holds no writer up.
    begin: () => void connection.exec("begin"),
    retryOf: () => null,
    toStorageError,
    close: () => Promise.resolve(void connection.close()),
  });
}

/** Another process writes into the file. */
function isBusy(error: unknown): boolean {
  return error instanceof BetterSqlite3.SqliteError && error.code.startsWith("SQLITE_BUSY");
}

function toStorageError(error: unknown, committing: boolean): StorageError {
  const code = error instanceof BetterSqlite3.SqliteError ? error.code : "";
  if (code === "SQLITE_FULL" || code === "SQLITE_IOERR_SHMSIZE") {
    return new StorageFullError("There is no room for this write. Free or add disk space, then try again.", {
      cause: error,
    });
  }
  // After a failed sync at COMMIT the write may or may not be on the disk. While the file is busy, it is not.
  const outcome = committing && !isBusy(error) ? "unknown" : "none";
  return new StorageError("The database failed. The server's log has the cause.", { cause: error, outcome });
}
