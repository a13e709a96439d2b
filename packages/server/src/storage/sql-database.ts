/** Puts the SQL storage together on an engine. */

import type { Database } from "./database.js";
import { NewerDatabaseError } from "./database.js";
import { SqlDirectory } from "./sql-directory.js";
import { read, type SqlEngine } from "./sql-engine.js";
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
  return {
    records: new SqlRecordStore(engine, queue),
    directory: new SqlDirectory(engine, queue),
    keys: new SqlKeyDirectory(engine, queue),
    maintenance: new SqlMaintenanceStore(engine, queue),
    restoration: new SqlRestoration(engine, queue),
    quotas: new SqlQuotaStore(engine, queue),
    async check() {
      await read(engine, (db) => db.selectFrom("settings").select("name").limit(1).execute());
    },
    async close() {
      await queue.close();
      await engine.close();
    },
  };
}
