/**
 * The thread that carries a large write-ahead log over to the database, started by sqlite-log.ts: on the server's own thread
 * every request would wait for it.
 *
 * Run by Node as it stands when nothing was built: it imports nothing of ours.
 */

import { parentPort, workerData } from "node:worker_threads";

import BetterSqlite3 from "better-sqlite3";

/** How far it has come. */
export interface Checkpoint {
  /** Pages in the log, -1 if another one is at it. */
  log: number;
  /** Of these, pages that are in the database as well. */
  checkpointed: number;
}

const connection = new BetterSqlite3(workerData as string, { fileMustExist: true });
// It never waits for anybody, and nobody for it; what it writes is synced as by the writer.
for (const setting of ["busy_timeout = 0", "synchronous = full", "fullfsync = on"]) connection.pragma(setting);

parentPort?.on("message", () => parentPort?.postMessage(checkpoint()));

/** Null when it failed. It may succeed the next time: there may have been no room for what the database grows by. */
function checkpoint(): Checkpoint | null {
  try {
    return (connection.pragma("wal_checkpoint(passive)") as Checkpoint[])[0] ?? null;
  } catch {
    return null;
  }
}
