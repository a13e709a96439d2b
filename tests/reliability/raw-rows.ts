/** The rows of a running server's database, read and changed past the server: what a failing disk or an intruder would do. */

import { join } from "node:path";

import BetterSqlite3 from "better-sqlite3";
import pg from "pg";
import { onTestFinished } from "vitest";

import type { Place } from "./databases.ts";

export type Table = "records" | "record_versions" | "store_keys";
/** Whole numbers as bigint. */
export type Value = string | bigint | Buffer | null;
export type Row = Readonly<Record<string, Value>>;

export const KEYS: Readonly<Record<Table, readonly string[]>> = {
  records: ["project", "store", "record_id"],
  record_versions: ["project", "store", "record_id", "version"],
  store_keys: ["project", "store", "purpose", "version"],
};

export interface RawRows {
  rows(table: Table, store: string): Promise<Row[]>;
  /** Puts `next` in the place of `row`. @throws {Error} unless it is exactly one. */
  replace(table: Table, row: Row, next: Row): Promise<void>;
}

/** PostgreSQL's number of the type bigint. */
const INT8 = 20;

interface Dialect {
  query: (text: string, parameters: readonly Value[]) => Promise<Row[]>;
  change: (text: string, parameters: readonly Value[]) => Promise<number>;
  placeholder: (index: number) => string;
}

export async function openRawRows({ dataDir, databaseUrl }: Place): Promise<RawRows> {
  const { query, change, placeholder } =
    databaseUrl === null ? openFile(join(dataDir, "tacenda.db")) : await openConnection(databaseUrl);
  return {
    rows: (table, store) => query(`select * from ${table} where store = ${placeholder(1)} order by 3, 4`, [store]),
    async replace(table, row, next) {
      const columns = Object.keys(next);
      const keys = KEYS[table];
      const sets = columns.map((column, index) => `${column} = ${placeholder(index + 1)}`);
      const where = keys.map((key, index) => `${key} = ${placeholder(columns.length + index + 1)}`);
      const parameters = [...columns.map((column) => next[column] ?? null), ...keys.map((key) => row[key] ?? null)];
      const changed = await change(`update ${table} set ${sets.join()} where ${where.join(" and ")}`, parameters);
      if (changed !== 1) throw new Error(`${changed} rows of ${table} were changed instead of one.`);
    },
  };
}

function openFile(file: string): Dialect {
  const connection = new BetterSqlite3(file, { timeout: 10_000 });
  onTestFinished(() => void connection.close());
  connection.defaultSafeIntegers();
  // Bits that rot ask no foreign key. Nothing here has to survive anything.
  connection.pragma("foreign_keys = off");
  connection.pragma("synchronous = off");
  return {
    query: (text, parameters) => Promise.resolve(connection.prepare<unknown[], Row>(text).all(...parameters)),
    change: (text, parameters) => Promise.resolve(connection.prepare(text).run(...parameters).changes),
    placeholder: () => "?",
  };
}

async function openConnection(url: string): Promise<Dialect> {
  const types = { getTypeParser: (oid: number) => (oid === INT8 ? BigInt : parserOf(oid)) };
  const client = new pg.Client({ connectionString: url, types });
  await client.connect();
  onTestFinished(() => client.end());
  await client.query("set session_replication_role = replica; set synchronous_commit = off");
  return {
    query: async (text, parameters) => (await client.query<Row>(text, [...parameters])).rows,
    change: async (text, parameters) => (await client.query(text, [...parameters])).rowCount ?? 0,
    placeholder: (index) => `$${index}`,
  };
}

const parserOf = pg.types.getTypeParser as (oid: number) => (text: string) => unknown;
