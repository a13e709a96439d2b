/**
 * The thread that carries a large write-ahead log over to the database, started by sqlite-log.ts: on the server's own thread
 * every request would wait for it.
 *
 * Run by Node as it stands when nothing was built: it imports nothing of ours.
 */

import { parentPort, workerData } from "node:worker_threads";

import BetterSqlite3 from "better-sqlite3";

/** `passive` waits for nobody, and nobody for it. `truncate` empties the log; nobody can write during that. */
export type Mode = "passive" | "truncate";

/** How far it has come. */
export interface Checkpoint {
  /** 1 when somebody was in the way. */
  busy: number;
  /** Pages in the log, -1 if another one is at it. */
  log: number;
  /** Of these, pages that are in the database as well. */
  checkpointed: number;
}

/** Milliseconds to wait for a transaction before emptying the log, and for readers, which nobody can write during. */
const BUSY_TIMEOUT = 20;

const connection = new BetterSqlite3(workerData as string, { fileMustExist: true });
// What it writes is synced as by the writer.
for (const setting of [`busy_timeout = ${BUSY_TIMEOUT}`, "synchronous = full", "fullfsync = on"]) {
  connection.pragma(setting);
}

parentPort?.on("message", (mode: Mode) => parentPort?.postMessage(checkpoint(mode)));

/** Null when it failed. It may succeed the next time: there may have been no room for what the database grows by. */
function checkpoint(mode: Mode): Checkpoint | null {
  try {
    return (connection.pragma(`wal_checkpoint(${mode})`) as Checkpoint[])[0] ?? null;
  } catch {
    return null;
  }
}
