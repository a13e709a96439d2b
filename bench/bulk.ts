/** Many records at once, written below the HTTP layer: through the SDK a million would take hours. */

import { randomBytes, randomFillSync } from "node:crypto";

import BetterSqlite3 from "better-sqlite3";

import { RECORD_BYTES } from "./fixture.ts";

/** What a stored body is longer than its sealed record; spec/envelope.md § Bodies. */
const BODY_BYTES = RECORD_BYTES + 49;
const HASH_BYTES = 32;
/** Rows per transaction. */
const STEP_ROWS = 50_000;

const RECORD = `insert into records (project, store, record_id, version, protected, active, tag, kept_from)
  values (?, ?, ?, 1, 0, 1, ?, 1)`;
const VERSION = `insert into record_versions (project, store, record_id, version, key_version, body, created_at, expires_at)
  values (?, ?, ?, 1, 1, ?, 1, 0)`;

/** A record and its one version, as they are stored. */
export interface Row {
  store: string;
  id: Buffer;
  tag: Buffer;
  body: Buffer;
}

/**
 * Writes `count` records into the database in `file`, as many into each of the stores, which must be in the order of their
 * names. Ids, tags and bodies are random bytes of the right lengths: nothing opens them.
 */
export function writeRecords(file: string, project: string, stores: readonly string[], count: number): void {
  writeRows(file, project, rowsOf(stores, count));
}

/** Writes the rows into the database in `file`, where a server may be running on it. */
export function writeRows(file: string, project: string, rows: Iterator<Row, undefined>): void {
  const database = new BetterSqlite3(file);
  try {
    const record = database.prepare(RECORD);
    const version = database.prepare(VERSION);
    const step = database.transaction(() => {
      for (let left = STEP_ROWS; left > 0; left--) {
        const { value: row } = rows.next();
        if (row === undefined) return false;
        record.run(project, row.store, row.id, row.tag);
        version.run(project, row.store, row.id, row.body);
      }
      return true;
    });
    while (step());
    // To the disk now, and not while something is measured.
    database.pragma("wal_checkpoint(truncate)");
  } finally {
    database.close();
  }
}

/** In the order of the tables' keys, so that their trees grow at one end. */
function* rowsOf(stores: readonly string[], count: number): Generator<Row, undefined> {
  // Bound values are copied, so one buffer does for all bodies.
  const noise = Buffer.alloc(HASH_BYTES + BODY_BYTES);
  for (const [index, store] of stores.entries()) {
    const size = Math.floor((count * (index + 1)) / stores.length) - Math.floor((count * index) / stores.length);
    const ids = Array.from({ length: size }, () => randomBytes(HASH_BYTES)).sort((a, b) => a.compare(b));
    for (const id of ids) {
      randomFillSync(noise);
      yield { store, id, tag: noise.subarray(0, HASH_BYTES), body: noise.subarray(HASH_BYTES) };
    }
  }
}
