/** Kysely's SQLite dialect, mended where it does not do for a store: BEGIN IMMEDIATE, cached statements, exact integers. */

import type BetterSqlite3 from "better-sqlite3";
import {
  CompiledQuery,
  SqliteAdapter,
  SqliteDriver,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type DatabaseConnection,
  type Dialect,
  type QueryResult,
  type SqliteDatabase,
  type SqliteStatement,
} from "kysely";

const BEGIN = CompiledQuery.raw("begin immediate");
const ROLLBACK = CompiledQuery.raw("rollback");

/** Dialect for one open connection, on which `statements` were and will be prepared. */
export function sqliteDialect(connection: BetterSqlite3.Database, statements = cacheStatements(connection)): Dialect {
  return {
    createDriver: () => new ImmediateDriver(connection, statements),
    createAdapter: () => new TransactionalAdapter(),
    createQueryCompiler: () => new LocklessQueryCompiler(),
    createIntrospector: (db) => new SqliteIntrospector(db),
  };
}

/** A transaction has the whole file, so there are no locks on rows to ask for, nor words to do so. */
class LocklessQueryCompiler extends SqliteQueryCompiler {
  protected override visitSelectModifier(): void {}
}

class ImmediateDriver extends SqliteDriver {
  readonly #connection: BetterSqlite3.Database;

  constructor(connection: BetterSqlite3.Database, statements: SqliteDatabase) {
    super({ database: statements });
    this.#connection = connection;
  }

  /** A deferred transaction that reads first and then writes can fail when another process wrote in between. */
  override async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(BEGIN);
  }

  /** SQLite has already rolled back by itself after some errors; saying so again would hide the error that matters. */
  override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    if (this.#connection.inTransaction) await connection.executeQuery(ROLLBACK);
  }
}

/** SQLite can undo a half-done migration; Kysely does not use that unless told. */
class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

/** Prepares each SQL text once. The texts are few: values are always parameters. */
export function cacheStatements(connection: BetterSqlite3.Database): SqliteDatabase {
  const statements = new Map<string, SqliteStatement>();
  return {
    close: () => void connection.close(),
    prepare(text) {
      let statement = statements.get(text);
      if (statement === undefined) {
        statement = withExactIntegers(connection.prepare(text));
        statements.set(text, statement);
      }
      return statement;
    },
  };
}

/**
 * Runs the queries at once, in the transaction that is open on the connection. Kysely's own way to a driver goes through a dozen
 * promises per query, which cost several times what SQLite takes for it.
 */
export function executeNow(statements: SqliteDatabase, queries: readonly CompiledQuery[]): QueryResult<unknown>[] {
  return queries.map(({ sql, parameters }) => {
    const statement = statements.prepare(sql);
    if (statement.reader) return { rows: statement.all(parameters) };
    const { changes } = statement.run(parameters);
    return { numAffectedRows: BigInt(changes), rows: [] };
  });
}

/** better-sqlite3 binds every number as a floating-point one; a bigint stays an integer all the way up to 2^53−1. */
function withExactIntegers(statement: BetterSqlite3.Statement): SqliteStatement {
  return {
    reader: statement.reader,
    all: (parameters) => statement.all(...parameters.map(bindable)),
    run: (parameters) => statement.run(...parameters.map(bindable)),
    iterate: (parameters) => statement.iterate(...parameters.map(bindable)),
  };
}

function bindable(value: unknown): unknown {
  return typeof value === "number" ? BigInt(value) : value;
}
