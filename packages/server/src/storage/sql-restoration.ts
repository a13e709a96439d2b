/** Inserts the rows of a backup or another database; restoration.ts says what each call promises. */

import { sql, type Kysely, type Transaction } from "kysely";

import { RECORD, ROW_TABLES, VERSION_COLUMNS, type PortableRow } from "./portable.js";
import { prepare, type Prepared } from "./prepared.js";
import { RESTORE_MARK, type RestoredRow, type Restoration } from "./restoration.js";
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

  async commit(rows: readonly RestoredRow[], mark: string | null): Promise<void> {
    await this.#queue.inBackground(async (transaction) => {
      // First of all: whoever else notes one waits for the end of this commit, or this one for theirs.
      await note(transaction, mark);
      const queries = rows.flatMap(({ table, as, row }) => (as === "reference" ? [] : [this.#query(table, as)(row)]));
      await this.#engine.executeAll(transaction, queries);
      // They refer to rows that are there already, of this batch or an earlier one.
      for (const { table, as, row } of rows) if (as === "reference") await setReference(transaction, table, row);
    });
  }

  async clearRows(): Promise<void> {
    await this.#queue.inBackground(async (transaction) => {
      // No row goes before one that refers to it.
      for (const name of Object.keys(ROW_TABLES).reverse()) {
        const all = anyTables(transaction).deleteFrom(name);
        await (name === "settings" ? all.where("name", "!=", RESTORE_MARK) : all).execute();
      }
    });
  }

  #query(name: string, as: Exclude<RestoredRow["as"], "reference">): Prepared<PortableRow, unknown> {
    const key = `${as} ${name}`;
    let query = this.#prepared.get(key);
    if (query === undefined) {
      const tables = anyTables(this.#engine.reader);
      query = as === "gone" ? prepareDelete(tables, name) : prepareInsert(tables, name, as === "replacement");
      this.#prepared.set(key, query);
    }
    return query;
  }
}

function prepareInsert(tables: AnyDatabase, name: string, replaces: boolean): Prepared<PortableRow, unknown> {
  const { key, columns, selfReference } = tableOf(name);
  return prepare((slot) => {
    const valueOf = (column: string) => slot((row) => (column === selfReference ? null : (row[column] ?? null)));
    const values = Object.fromEntries(columns.map((column) => [column, valueOf(column)] as const));
    const insert = tables.insertInto(name).values(values);
    if (!replaces) return insert;
    return insert.onConflict((conflict) =>
      conflict
        .columns([...key])
        .doUpdateSet((eb) =>
          Object.fromEntries(columns.map((column) => [column, eb.ref(`excluded.${column}`)] as const)),
        ),
    );
  });
}

/** Of the rows of one record. */
function prepareDelete(tables: AnyDatabase, name: string): Prepared<PortableRow, unknown> {
  return prepare((slot) => {
    let query = tables.deleteFrom(name);
    for (const column of RECORD.key)
      query = query.where(
        column,
        "=",
        slot((row) => row[column] ?? null),
      );
    return query;
  });
}

async function setReference(transaction: Transaction<Schema>, name: string, row: PortableRow): Promise<void> {
  const { key, selfReference = "" } = tableOf(name);
  let query = anyTables(transaction)
    .updateTable(name)
    .set({ [selfReference]: row[selfReference] ?? null });
  for (const column of key) query = query.where(column, "=", row[column] ?? null);
  await query.execute();
}

async function note(transaction: Transaction<Schema>, mark: string | null): Promise<void> {
  if (mark === null) {
    await transaction.deleteFrom("settings").where("name", "=", RESTORE_MARK).execute();
    return;
  }
  await transaction
    .insertInto("settings")
    .values({ name: RESTORE_MARK, value: mark })
    .onConflict((conflict) => conflict.column("name").doUpdateSet({ value: mark }))
    .execute();
}

function anyTables(db: Kysely<Schema>): AnyDatabase {
  return db as unknown as AnyDatabase;
}

function tableOf(name: string): Table {
  const table = TABLES[name];
  if (table === undefined) throw new RangeError("There is no such table in a backup.");
  return table;
}
