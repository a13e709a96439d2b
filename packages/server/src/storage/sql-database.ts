/** Puts the SQL storage together on an engine. */

import { setTimeout as sleep } from "node:timers/promises";

import type { Database } from "./database.js";
import { NewerDatabaseError } from "./database.js";
import { SqlDirectory } from "./sql-directory.js";
import { LIMIT } from "./patience.js";
import { AT_ONCE, UNHURRIED, read, type SqlEngine } from "./sql-engine.js";
import { StorageBusyError } from "./record-store.js";
import { CLOSED, CLOSED_MARK } from "./restoration.js";
import { SqlKeyDirectory } from "./sql-key-directory.js";
import { SqlMaintenanceStore } from "./sql-maintenance.js";
import { SqlQuotaStore } from "./sql-quotas.js";
import { SqlRecordStore } from "./sql-record-store.js";
import { SqlRestoration } from "./sql-restoration.js";
import { WriteQueue } from "./write-queue.js";

/**
 * Brings the tables up to date and returns the storage. The engine is closed with it, or when this fails.
 * @throws {NewerDatabaseError | StorageError}
 */
export async function createDatabase(engine: SqlEngine): Promise<Database> {
  try {
    await engine.migrate();
  } catch (error) {
    await engine.close();
    throw error instanceof NewerDatabaseError ? error : engine.toStorageError(error, false);
  }
  const queue = new WriteQueue(engine);
  const unhurried = { ...engine, readTimes: UNHURRIED };
  return {
    records: new SqlRecordStore(engine, queue),
    directory: new SqlDirectory(engine, queue),
    keys: new SqlKeyDirectory(engine, queue),
    maintenance: new SqlMaintenanceStore(unhurried, queue),
    restoration: new SqlRestoration(unhurried, queue),
    quotas: new SqlQuotaStore(unhurried, queue),
    async check() {
      const closed = await read({ ...engine, readTimes: AT_ONCE }, (db) =>
        db.selectFrom("settings").select("name").where("name", "=", CLOSED_MARK).execute(),
      );
      if (closed.length > 0) throw new StorageBusyError(CLOSED);
    },
    async diskUse() {
      return await read(engine, () => Promise.resolve(engine.diskUse()));
    },
    async close() {
      const idle = queue.close();
      // A commit may wait for a standby that is away for long, and what is left then loses its connection.
      await Promise.race([idle, sleep(LIMIT, undefined, { ref: false })]);
      await engine.close();
      await idle;
    },
  };
}
