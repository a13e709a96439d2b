/** `tacenda-server restore`: puts a backup into a new data directory; spec/envelope.md § Restoring. */

import { openBackup, type Backup } from "../backup/open-backup.js";
import { requireKeys, restoreBackup } from "../backup/restore.js";
import { placeOf } from "../backup/source.js";
import { counted } from "../counted.js";
import { nameOfData, openRestoreDirectory } from "../data-directory.js";
import { openKeyProviders, type KeyFlags } from "./key-provider.js";
import type { DatabaseFlags } from "./options.js";
import { createLogger } from "./process.js";
import { startProgress } from "./progress.js";

export interface RestoreFlags extends KeyFlags, DatabaseFlags {
  keys?: string;
}

export async function restore(directory: string, flags: RestoreFlags): Promise<void> {
  const backup = await openChecked(directory, flags.keys);
  const logger = createLogger("warn", 2);
  const progress = startProgress("restoring");
  try {
    const providers = await openKeyProviders(flags);
    try {
      await requireKeys(backup, providers);
    } finally {
      await providers.close();
    }
    const name = nameOfData(flags.dataDir, flags);
    const data = await openRestoreDirectory(flags.dataDir, logger, flags);
    try {
      const onProgress = (done: number, total: number) => progress.update(done, total);
      const { database } = data;
      const summary = await restoreBackup({ backup, database, name, now: Date.now(), onProgress });
      progress.stop();
      const { stores, records, versions } = summary;
      process.stdout.write(
        `Restored ${counted(stores, "store")}, ${counted(records, "record")}, ${counted(versions, "version")}, as of ${backup.asOf}, to ${name}\n`,
      );
      for (const store of backup.destroyed) process.stdout.write(`${describeDestroyed(placeOf(store))}\n`);
    } finally {
      await data.close();
    }
  } finally {
    progress.stop();
    await backup.close();
    await new Promise<void>((done) => logger.flush(() => done()));
  }
}

/** Opens a backup and shows how far the check of its lines has come. @throws as openBackup does */
export async function openChecked(directory: string, keysFile: string | undefined): Promise<Backup> {
  const progress = startProgress("checking");
  try {
    return await openBackup({ directory, keysFile, onProgress: (done, total) => progress.update(done, total) });
  } finally {
    progress.stop();
  }
}

/** Of a store whose keys are not in the file of keys. */
export function describeDestroyed(place: string): string {
  return `Store ${place} has no keys in the file of keys: it was destroyed since, and its records do not open any more.`;
}
