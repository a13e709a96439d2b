/** `tacenda-server backup`: writes a backup while a server runs on the data directory, or none; spec/envelope.md § Backups. */

import { relative, resolve, sep } from "node:path";

import { explained, openBackupDirectory } from "../backup/backup-directory.js";
import { writeBackup } from "../backup/write-backup.js";
import { counted } from "../counted.js";
import { nameOfData, openDataSnapshot } from "../data-directory.js";
import { InvalidOptionError } from "../startup-error.js";
import type { DatabaseFlags } from "./options.js";
import { startProgress } from "./progress.js";

export interface BackupFlags extends DatabaseFlags {
  dataDir: string;
}

export async function backup(target: string, { dataDir, databaseUrl }: BackupFlags): Promise<void> {
  if (isWithin(resolve(target), resolve(dataDir))) {
    throw new InvalidOptionError("A backup inside the data directory is lost with it. Choose a directory elsewhere.");
  }
  const takenAt = new Date();
  const snapshot = await openDataSnapshot(dataDir, { databaseUrl });
  const progress = startProgress("backing up");
  try {
    const directory = await openBackupDirectory(target);
    try {
      const onProgress = (done: number, total: number) => progress.update(done, total);
      const summary = await explained(resolve(target), () => writeBackup({ snapshot, takenAt, directory, onProgress }));
      progress.stop();
      const { stores, records, versions, kept } = summary;
      process.stdout.write(
        `Backed up ${counted(stores, "store")}, ${counted(records, "record")}, ${counted(versions, "version")} of ` +
          `${nameOfData(dataDir, { databaseUrl })}, as of ${takenAt.toISOString()}, to ${resolve(target)}\n` +
          describeKept(kept),
      );
    } finally {
      await directory.close();
    }
  } finally {
    progress.stop();
    await snapshot.close();
  }
}

function isWithin(path: string, folder: string): boolean {
  const way = relative(folder, path);
  return way === "" || !(way === ".." || way.startsWith(`..${sep}`) || resolve(way) === way);
}

/** Of a run that goes on where another one stopped; as a line, or nothing. */
export function describeKept(kept: number): string {
  if (kept === 0) return "";
  return `Of these, ${counted(kept, "record")} ${kept === 1 ? "was" : "were"} there from a run that was interrupted.\n`;
}
