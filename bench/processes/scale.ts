/** A server in a process of its own, on a database that stays when it ends: SQLite in `dataDir`, or what the URL names. */

import { statSync } from "node:fs";
import { join } from "node:path";

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
    if (place.databaseUrl === null) writeRows(join(place.dataDir, "tacenda.db"), DEFAULT_PROJECT, rows);
    else await writePostgresRows(place.databaseUrl, DEFAULT_PROJECT, rows);
  },

  async size() {
    if (place.databaseUrl === null) return statSync(join(place.dataDir, "tacenda.db")).size;
    const client = new pg.Client({ connectionString: place.databaseUrl });
    await client.connect();
    const { rows } = await client.query<{ size: string }>("select pg_database_size(current_database()) as size");
    await client.end();
    return Number(rows[0]?.size);
  },

  memory: () => Promise.resolve(process.memoryUsage.rss()),
};

answerParent(handlers, () => server.close());

function administrator(): TacendaAdmin {
  return new TacendaAdmin({ url: server.url, token: ROOT_TOKEN });
}
