/** Kysely's dialect of PostgreSQL on our own pool: prepared statements with stable names, several in one round trip, honest commits. */

import { createHash } from "node:crypto";

import {
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
  type TransactionSettings,
} from "kysely";
import type pg from "pg";

import {
  ConnectionLostError,
  UnconfirmedCommitError,
  breaksConnection,
  isTimeout,
  sqlState,
} from "./postgres-errors.js";
import type { PostgresPool } from "./postgres-pool.js";
import type { Session } from "./postgres-session.js";

const MANY: unique symbol = Symbol("many queries");

/** Several queries as one, whose rows are their results. */
export interface ManyQueries extends CompiledQuery<QueryResult<unknown>> {
  readonly [MANY]: readonly CompiledQuery[];
}

export function asOne(queries: readonly CompiledQuery[]): ManyQueries {
  const [first] = queries;
  if (first === undefined) throw new RangeError("There is nothing to run.");
  return { ...first, [MANY]: queries };
}

/** Where connections come from. */
export type Sessions = Pick<PostgresPool, "acquire" | "release" | "forgetIdle">;

/** Dialect for the connections of a pool, which its owner closes. */
export function postgresDialect(pool: Sessions): Dialect {
  return {
    createDriver: () => new PooledDriver(pool),
    createAdapter: () => new PostgresAdapter(),
    createQueryCompiler: () => new PostgresQueryCompiler(),
    createIntrospector: (db) => new PostgresIntrospector(db),
  };
}

class PooledDriver implements Driver {
  readonly #pool: Sessions;

  constructor(pool: Sessions) {
    this.#pool = pool;
  }

  init(): Promise<void> {
    return Promise.resolve();
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    return new PostgresConnection(await this.#pool.acquire(), this.#pool);
  }

  beginTransaction(connection: DatabaseConnection, { isolationLevel, accessMode }: TransactionSettings): Promise<void> {
    const level = isolationLevel === undefined ? "" : ` isolation level ${isolationLevel}`;
    own(connection).begin(`begin${level}${accessMode === undefined ? "" : ` ${accessMode}`}`);
    return Promise.resolve();
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await own(connection).commit();
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await own(connection).rollback();
  }

  releaseConnection(connection: DatabaseConnection): Promise<void> {
    this.#pool.release(own(connection).session);
    return Promise.resolve();
  }

  destroy(): Promise<void> {
    return Promise.resolve();
  }
}

/** Kysely gives back what it was given. */
function own(connection: DatabaseConnection): PostgresConnection {
  if (connection instanceof PostgresConnection) return connection;
  throw new TypeError("That is another driver's connection.");
}

class PostgresConnection implements DatabaseConnection {
  readonly session: Session;
  readonly #pool: Sessions;
  /** BEGIN, until it is known to have worked. It is sent together with the first queries, if those only read. */
  #begun: Promise<unknown> | null = null;

  constructor(session: Session, pool: Sessions) {
    this.session = session;
    this.#pool = pool;
  }

  async executeQuery<Row>(query: CompiledQuery): Promise<QueryResult<Row>> {
    const many = (query as Partial<ManyQueries>)[MANY];
    const results = await this.#run(many ?? [query]);
    return (many === undefined ? results[0] : { rows: results }) as QueryResult<Row>;
  }

  begin(statement: string): void {
    this.#begun = this.session.client.query(statement);
    // Whoever runs a query hears of it.
    this.#begun.catch(() => undefined);
  }

  /**
   * @throws {ConnectionLostError} when COMMIT was not even sent.
   * @throws {UnconfirmedCommitError} when the server warns of it: a wait for standbys was cut short, for instance, and what it
   * calls committed would be lost with this machine.
   */
  async commit(): Promise<void> {
    await this.#settle([]);
    const { session } = this;
    if (session.isBroken) throw new ConnectionLostError();
    const warnings = session.warnings;
    const [answer] = await Promise.allSettled([session.commit()]);
    if (answer.status === "rejected") {
      const isLost = await this.#isLost(answer.reason);
      throw isLost ? new UnconfirmedCommitError(answer.reason) : answer.reason;
    }
    // What had failed was rolled back, and nothing was written.
    if (answer.value.command !== "COMMIT") throw new ConnectionLostError();
    if (session.warnings > warnings) throw new UnconfirmedCommitError();
  }

  /** Never throws: it would hide what made the transaction fail. A connection on which it fails is given up, and its transaction. */
  async rollback(): Promise<void> {
    if (this.session.isBroken) return;
    try {
      await this.session.client.query("rollback");
    } catch {
      this.session.isBroken = true;
    }
  }

  // eslint-disable-next-line require-yield -- Nothing here reads row by row.
  async *streamQuery<Row>(): AsyncIterableIterator<QueryResult<Row>> {
    throw await Promise.resolve(new Error("Not here."));
  }

  async #run(queries: readonly CompiledQuery[]): Promise<QueryResult<unknown>[]> {
    const { client } = this.session;
    // After a BEGIN that fails they would run all the same, each in a transaction of its own.
    if (this.#begun !== null && !queries.every(({ sql }) => sql.startsWith("select "))) await this.#settle([]);
    return await this.#settle(queries.map((query) => client.query(named(query))));
  }

  /** Waits for all, so that no answer is under way any more when this ends, and throws the first failure: the others follow from it. */
  async #settle(sent: Promise<pg.QueryResult>[]): Promise<QueryResult<unknown>[]> {
    const [begun, ...settled] = await Promise.allSettled([this.#begun, ...sent]);
    for (const one of [begun, ...settled]) {
      if (one.status === "fulfilled") continue;
      throw (await this.#isLost(one.reason)) ? new ConnectionLostError(one.reason) : one.reason;
    }
    this.#begun = null;
    return settled.flatMap((one) => (one.status === "fulfilled" ? [toResult(one.value)] : []));
  }

  /** Whether the session is gone, and what was thrown does not say so by its code. */
  async #isLost(error: unknown): Promise<boolean> {
    const { session } = this;
    const isBroken = breaksConnection(error);
    if (isBroken) session.isBroken = true;
    // The primary has become a standby, or hangs: the other connections to it are of no use either.
    if (sqlState(error) === "25006" || isTimeout(error)) this.#pool.forgetIdle();
    if (isBroken) return sqlState(error) === undefined;
    // What is FATAL has that in the server's language only. But nothing is answered after it, and after any other error this is.
    try {
      await session.client.query("");
      return false;
    } catch {
      session.isBroken = true;
      return true;
    }
  }
}

/** Names of prepared statements by their text. The texts are few, for values are always parameters. */
const names = new Map<string, string>();

function named({ sql, parameters }: CompiledQuery): pg.QueryConfig {
  if (parameters.length === 0) return { text: sql };
  let name = names.get(sql);
  if (name === undefined) {
    name = `tacenda_${createHash("sha256").update(sql).digest("hex").slice(0, 24)}`;
    names.set(sql, name);
  }
  return { name, text: sql, values: [...parameters] };
}

function toResult({ command, rowCount, rows }: pg.QueryResult): QueryResult<unknown> {
  const isWrite = command === "INSERT" || command === "UPDATE" || command === "DELETE";
  return { rows, ...(isWrite && { numAffectedRows: BigInt(rowCount ?? 0) }) };
}
