/** Many records at once on PostgreSQL, several thousand in a statement and several statements at a time. */

import pg from "pg";

import type { Row } from "./bulk.ts";

/** Rows per statement: about a megabyte. */
const STEP_ROWS = 2_000;
/** The database's processes work while this one makes the next rows. */
const CONNECTIONS = 3;

/** Fields of equal length lie one behind the other in one parameter: an array would be sent as text, twice as long. */
const SLICE = (parameter: number, length: number) =>
  `substring($${parameter}::bytea from n * ${length} + 1 for ${length})`;
const RECORD = (id: number, tag: number) => `insert into records
  (project, store, record_id, version, protected, active, tag, kept_from)
  select $1, $2, ${SLICE(3, id)}, 1, 0, 1, ${SLICE(4, tag)}, 1 from generate_series(0, $5::int - 1) as n`;
const VERSION = (id: number, body: number) => `insert into record_versions
  (project, store, record_id, version, key_version, body, created_at, expires_at)
  select $1, $2, ${SLICE(3, id)}, 1, 1, ${SLICE(4, body)}, 1, 0 from generate_series(0, $5::int - 1) as n`;

/** Writes rows of one store, whose fields are each of one length. In the end they are on the disk and the tables tidied up. */
export async function writePostgresRows(url: string, project: string, rows: Iterator<Row, undefined>): Promise<void> {
  const clients = Array.from({ length: CONNECTIONS }, () => new pg.Client({ connectionString: url }));
  try {
    // All of them before the first row is asked for: that can take longer than a log-in may.
    for (const client of clients) await client.connect();
    await Promise.all(
      clients.map(async (client) => {
        // The checkpoint in the end syncs what commits here do not wait for.
        await client.query("set synchronous_commit = off");
        for (let step = take(rows); step.length > 0; step = take(rows)) await write(client, project, step);
      }),
    );
    // As a database that has grown slowly has been by autovacuum.
    for (const table of ["records", "record_versions"]) await clients[0]?.query(`vacuum (analyze) ${table}`);
    await clients[0]?.query("checkpoint");
  } finally {
    await Promise.all(clients.map((client) => client.end()));
  }
}

function take(rows: Iterator<Row, undefined>): Row[] {
  const step: Row[] = [];
  while (step.length < STEP_ROWS) {
    const { value: row } = rows.next();
    if (row === undefined) break;
    step.push(row);
  }
  return step;
}

async function write(client: pg.Client, project: string, step: readonly Row[]): Promise<void> {
  const [first] = step;
  if (first === undefined) return;
  const [ids, tags, bodies] = (["id", "tag", "body"] as const).map((field) =>
    Buffer.concat(step.map((row) => row[field])),
  );
  const insert = (name: string, text: string, field: Buffer | undefined) =>
    client.query({ name, text, values: [project, first.store, ids, field, step.length] });
  await client.query("begin");
  await insert("records", RECORD(first.id.length, first.tag.length), tags);
  await insert("versions", VERSION(first.id.length, first.body.length), bodies);
  await client.query("commit");
}
