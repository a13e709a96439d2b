/** Inserts the rows of a backup or another database; restoration.ts says what each call promises. */

import { sql, type Kysely, type Transaction } from "kysely";

import { RECORD, ROW_TABLES, VERSION_COLUMNS, type PortableRow } from "./portable.js";
import { prepare, type Prepared } from "./prepared.js";
import { CLOSED_MARK, RESTORE_MARK, type RestoredRow, type Restoration } from "./restoration.js";
import type { Schema } from "./schema.js";
import { read, type SqlEngine } from "./sql-engine.js";
import type { WriteQueue } from "./write-queue.js";

interface Table {
  key: readonly string[];
  columns: readonly string[];
  selfReference?: string;
}

const ROWS_AND_RECORDS: Readonly<Record<string, Omit<Table, "columns"> & { columns: object }>> = {
  ...ROW_TABLES,
  records: RECORD,
};

const TABLES: Readonly<Record<string, Table>> = {
  ...Object.fromEntries(
    Object.entries(ROWS_AND_RECORDS).map(([name, table]) => [name, { ...table, columns: Object.keys(table.columns) }]),
  ),
  record_versions: {
    key: [...RECORD.key, "version"],
    columns: [...RECORD.key, ...VERSION_COLUMNS, "body"],
  },
};

/** The same tables with columns of any name: theirs are data here. */
type AnyDatabase = Kysely<Record<string, Record<string, PortableRow[string]>>>;

export class SqlRestoration implements Restoration {
  readonly #engine: SqlEngine;
  readonly #queue: WriteQueue;
  readonly #prepared = new Map<string, Prepared<PortableRow, unknown>>();

  constructor(engine: SqlEngine, queue: WriteQueue) {
    this.#engine = engine;
    this.#queue = queue;
  }

  async isEmpty(): Promise<boolean> {
    for (const name of Object.keys(TABLES)) {
      const found = await read(this.#engine, (db) =>
        (db as unknown as AnyDatabase).selectFrom(name).select(sql.lit(1).as("one")).limit(1).execute(),
      );
      if (found.length > 0) return false;
    }
    return true;
  }

  async commit(rows: readonly RestoredRow[], before: string | null, after: string | null): Promise<boolean> {
    return await this.#queue.inBackground(async (transaction) => {
      // First of all: another commit with a mark waits for the end of this one, and then finds what it has left.
      if (!(await replaceMark(transaction, RESTORE_MARK, before, after))) return false;
      const queries = rows.flatMap(({ table, as, row }) => (as === "reference" ? [] : [this.#query(table, as)(row)]));
      await this.#engine.executeAll(transaction, queries);
      // They refer to rows that are there already, of this batch or an earlier one.
      for (const { table, as, row } of rows) if (as === "reference") await setReference(transaction, table, row);
      return true;
    });
  }

  async replaceClosedMark(before: string | null, after: string | null): Promise<boolean> {
    return await this.#queue.inBackground((transaction) =>
      this.#engine.setClosed(transaction, after !== null, () => replaceMark(transaction, CLOSED_MARK, before, after)),
    );
  }

  #query(name: string, as: keyof typeof CHANGES): Prepared<PortableRow, unknown> {
    const key = `${as} ${name}`;
    let query = this.#prepared.get(key);
    if (query === undefined) {
      query = CHANGES[as](anyTables(this.#engine.reader), name);
      this.#prepared.set(key, query);
    }
    return query;
  }
}

const CHANGES = { row: prepareInsert, gone: prepareDelete, emptied: prepareEmptying };

function prepareInsert(tables: AnyDatabase, name: string): Prepared<PortableRow, unknown> {
  const { columns, selfReference } = tableOf(name);
  return prepare((slot) => {
    const valueOf = (column: string) => slot((row) => (column === selfReference ? null : (row[column] ?? null)));
    const values = Object.fromEntries(columns.map((column) => [column, valueOf(column)] as const));
    return tables.insertInto(name).values(values);
  });
}

function prepareDelete(tables: AnyDatabase, name: string): Prepared<PortableRow, unknown> {
  return prepare((slot) =>
    RECORD.key.reduce((query, column) => {
      const value = slot((row) => row[column] ?? null);
      return query.where(column, "=", value);
    }, tables.deleteFrom(name)),
  );
}

function prepareEmptying(tables: AnyDatabase, name: string): Prepared<PortableRow, unknown> {
  const all = tables.deleteFrom(name);
  return prepare(() => (name === "settings" ? all.where("name", "!=", RESTORE_MARK) : all));
}

async function setReference(transaction: Transaction<Schema>, name: string, row: PortableRow): Promise<void> {
  const { key, selfReference = "" } = tableOf(name);
  let query = anyTables(transaction)
    .updateTable(name)
    .set({ [selfReference]: row[selfReference] ?? null });
  for (const column of key) query = query.where(column, "=", row[column] ?? null);
  await query.execute();
}

/** False, and nothing changes, when it is another one. */
async function replaceMark(
  transaction: Transaction<Schema>,
  name: string,
  before: string | null,
  after: string | null,
): Promise<boolean> {
  if (before === null) {
    if (after === null) return true;
    const { numInsertedOrUpdatedRows } = await transaction
      .insertInto("settings")
      .values({ name, value: after })
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    return numInsertedOrUpdatedRows === 1n;
  }
  if (after === null) {
    const { numDeletedRows } = await transaction
      .deleteFrom("settings")
      .where("name", "=", name)
      .where("value", "=", before)
      .executeTakeFirst();
    return numDeletedRows > 0n;
  }
  const { numUpdatedRows } = await transaction
    .updateTable("settings")
    .set({ value: after })
    .where("name", "=", name)
    .where("value", "=", before)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

function anyTables(db: Kysely<Schema>): AnyDatabase {
  return db as unknown as AnyDatabase;
}

function tableOf(name: string): Table {
  const table = TABLES[name];
  if (table === undefined) throw new RangeError("There is no such table in a backup.");
  return table;
}
