/** What the tests of flipped bytes share: flips, rows that are put back, and what `verify` says of a database. */

import { snapshotSource } from "../../src/backup/source.js";
import { verify } from "../../src/backup/verify.js";
import { KeyProviders } from "../../src/envelope/key-providers.js";
import { openSqliteSnapshot } from "../../src/storage/sqlite.js";
import type { World } from "./world.js";

/** The bytes with one bit flipped, another one from byte to byte, at each of the places. */
export function* flips(bytes: Uint8Array, places: Iterable<number> = bytes.keys()): Generator<[number, Buffer]> {
  for (const place of places) {
    const changed = Buffer.from(bytes);
    changed[place] = (changed[place] ?? 0) ^ (1 << (place % 8));
    yield [place, changed];
  }
}

type Row = Record<string, unknown>;
type Table = "records" | "record_versions" | "store_keys";

const WHOLE_NUMBERS = ["version", "protected", "active", "kept_from", "key_version", "created_at", "expires_at"];

/** Edits single values of the database past the server, as a broken disk or an intruder would, and puts them back. */
export class Editor {
  readonly #raw: World["raw"];

  constructor({ raw }: World) {
    this.#raw = raw;
    // Bits that rot ask no foreign key.
    raw.pragma("foreign_keys = off");
  }

  /** Rows of a table, in the order of its key. */
  rows(table: Table): Row[] {
    const order = table === "store_keys" ? "project, store, purpose, version" : "project, store, record_id, 4";
    return this.#raw.prepare<[], Row>(`select * from ${table} order by ${order}`).all();
  }

  /** Runs `check` while the column of the one row that `where` finds holds `value`, and then puts all tables back. */
  async with(table: Table, where: string, column: string, value: unknown, check: () => Promise<void>): Promise<void> {
    const tables = ["records", "record_versions", "store_keys"] as const;
    const before = tables.map((name) => this.rows(name));
    const bound = typeof value === "number" ? BigInt(value) : value;
    const { changes } = this.#raw.prepare(`update ${table} set ${column} = ? where ${where}`).run(bound);
    if (changes !== 1) throw new Error(`${changes} rows of ${table} have ${where}.`);
    try {
      await check();
    } finally {
      this.#raw.transaction(() => {
        for (const [index, name] of tables.entries()) this.#replace(name, before[index] ?? []);
      })();
    }
  }

  #replace(table: Table, rows: readonly Row[]): void {
    this.#raw.exec(`delete from ${table}`);
    for (const row of rows) {
      const columns = Object.keys(row);
      const values = columns.map((column) => toBound(column, row[column]));
      this.#raw
        .prepare(`insert into ${table} (${columns.join()}) values (${columns.map(() => "?").join()})`)
        .run(...values);
    }
  }
}

function toBound(column: string, value: unknown): unknown {
  return typeof value === "number" && WHOLE_NUMBERS.includes(column) ? BigInt(value) : value;
}

/** What `tacenda-server verify` finds damaged in the world's database, in its sentences. */
export async function damageOf({ file, keyring }: World): Promise<string[]> {
  const snapshot = await openSqliteSnapshot(file);
  const damage: string[] = [];
  try {
    const providers = KeyProviders.forUnwrapping([keyring]);
    await verify({ source: await snapshotSource(snapshot), providers, onDamage: (what) => damage.push(what) });
    return damage;
  } finally {
    await snapshot.close();
  }
}
