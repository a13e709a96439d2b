/** A server in a process of its own, on a database that stays when it ends: SQLite in `dataDir`, or what the URL names. */

import { createReadStream, statSync } from "node:fs";
import { join } from "node:path";
import { finished } from "node:stream/promises";

import { DEFAULT_PROJECT } from "@tacenda/protocol";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { startServer, type RunningServer } from "@tacenda/server";
import pg from "pg";

import { writePostgresRows } from "../bulk-postgres.ts";
import { writeRows } from "../bulk.ts";
import { STORE } from "../fixture.ts";
import { timed } from "../measure.ts";
import { openStore, sealedRows } from "../scale/records.ts";
import { answerParent } from "./child.ts";
import { type ServerHandlers, type Target, usedCpu } from "./contender.ts";

export interface ScalePlace {
  dataDir: string;
  /** Null for SQLite. */
  databaseUrl: string | null;
}

export interface ScaleHandlers extends ServerHandlers {
  /** Starts the server and gives the milliseconds that took. Comes before all else. */
  start(place: ScalePlace): Promise<number>;
  /** Makes the store and writes records into it. */
  fill(payload: { seed: string; records: number; shuffled: boolean }): Promise<void>;
  /** Reads the whole database once, so that it is in memory as far as there is room. */
  warm(payload: null): Promise<void>;
  /** Bytes of the database on the disk. */
  size(payload: null): Promise<number>;
  /** Bytes of memory that the process has of its own. */
  memory(payload: null): Promise<number>;
}

const ROOT_TOKEN = "the-root-token-of-a-benchmark-that-nobody-else-reaches";

let place: ScalePlace;
let server: RunningServer;
let target: Target | undefined;

const handlers: ScaleHandlers = {
  async start(where) {
    place = where;
    const { dataDir, databaseUrl } = where;
    return await timed(async () => {
      server = await startServer({
        dataDir,
        port: 0,
        rootToken: ROOT_TOKEN,
        ...(databaseUrl !== null && { databaseUrl }),
      });
    });
  },

  async target() {
    if (target !== undefined) return target;
    const { token } = await administrator().tokens.create("bench", [
      { stores: [STORE], permissions: ["read", "write"] },
    ]);
    return (target = { url: server.url, token });
  },

  cpu: usedCpu,

  async fill({ seed, records, shuffled }) {
    await administrator().stores.create(STORE);
    const rows = sealedRows(await openStore(server.keys), { seed, count: records, shuffled });
    if (place.databaseUrl === null) writeRows(sqliteFile(), DEFAULT_PROJECT, rows);
    else await writePostgresRows(place.databaseUrl, DEFAULT_PROJECT, rows);
  },

  async warm() {
    if (place.databaseUrl === null) {
      await finished(createReadStream(sqliteFile(), { highWaterMark: 1_048_576 }).resume());
      return;
    }
    await query("create extension if not exists pg_prewarm");
    // What every request reads comes last, and stays when there is no room for all.
    for (const relation of ["record_versions", "records", "record_versions_key", "records_key"]) {
      await query(`select pg_prewarm('${relation}')`);
    }
  },

  async size() {
    if (place.databaseUrl === null) return statSync(sqliteFile()).size;
    return await query("select pg_database_size(current_database()) as number");
  },

  memory: () => Promise.resolve(process.memoryUsage.rss()),
};

answerParent(handlers, () => server.close());

function administrator(): TacendaAdmin {
  return new TacendaAdmin({ url: server.url, token: ROOT_TOKEN });
}

function sqliteFile(): string {
  return join(place.dataDir, "tacenda.db");
}

/** The number that the statement gives, if any. */
async function query(text: string): Promise<number> {
  const client = new pg.Client({ connectionString: place.databaseUrl ?? "" });
  await client.connect();
  try {
    const { rows } = await client.query<{ number: string }>(text);
    return Number(rows[0]?.number);
  } finally {
    await client.end();
  }
}
