/** The directory of a backup: its two files, finished or not; spec/envelope.md § Backups. */

import { existsSync } from "node:fs";
import { chmod, open, readdir, rename, unlink, type FileHandle } from "node:fs/promises";
import { join, resolve } from "node:path";

import { makePrivateFolder, syncFolder } from "../private-file.js";
import { codeOf } from "../startup-error.js";
import { DataDirectoryLockedError, lockDataDirectory } from "../storage/lock.js";
import { BackupError } from "./errors.js";

export const RECORDS_FILE = "records.jsonl";
export const KEYS_FILE = "keys.jsonl";
/** What a file is called until it is finished. */
const PARTIAL = ".partial";
const LOCK_FILE = "lock";
/** What an interrupted backup leaves, SQLite's file beside the lock included. */
const OWN_FILES = /^(?:keys\.jsonl|(?:records|keys)\.jsonl\.partial|lock(?:-journal)?|lost\+found)$/;

/** A directory that a backup is being written to. */
export interface BackupDirectory {
  /** As long as it is open, no other backup writes to the directory. */
  records: FileHandle;
  keys: FileHandle;
  recordsName: string;
  /** Puts the keys in their place, then the records: that makes the backup. Both must be on the disk. */
  finish(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Makes the directory (0700), or takes up one in which a backup was interrupted.
 * @throws {BackupError} when it holds a finished backup or anything else, or another backup is being written to it.
 */
export async function openBackupDirectory(path: string): Promise<BackupDirectory> {
  const directory = resolve(path);
  const lock = await explained(directory, () => claim(directory));
  const files: FileHandle[] = [];
  const at = (name: string) => join(directory, name);
  const openPartial = async (name: string) => {
    const file = await open(at(name + PARTIAL), existsSync(at(name + PARTIAL)) ? "r+" : "wx+", 0o600);
    files.push(file);
    return file;
  };
  const close = async () => {
    for (const file of files) await file.close();
    lock.release();
  };
  try {
    const [records, keys] = await explained(
      directory,
      async () => [await openPartial(RECORDS_FILE), await openPartial(KEYS_FILE)] as const,
    );
    return {
      records,
      keys,
      recordsName: at(RECORDS_FILE),
      async finish() {
        await rename(at(KEYS_FILE + PARTIAL), at(KEYS_FILE));
        await rename(at(RECORDS_FILE + PARTIAL), at(RECORDS_FILE));
        await syncFolder(directory);
        await unlink(at(LOCK_FILE));
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Runs `work`; what the system refuses becomes a sentence. @throws {BackupError} */
export async function explained<T>(directory: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const code = codeOf(error);
    // Errors of SQLite are of the database, and explained elsewhere.
    if (code === undefined || error instanceof BackupError || code.startsWith("SQLITE_")) throw error;
    const need =
      code === "ENOSPC" || code === "EDQUOT"
        ? "its disk is full. Free some space, then run the same command again: it goes on where it stopped"
        : "it must be a folder that this user can write";
    throw new BackupError(`Cannot write the backup to ${directory} (${code}): ${need}.`, { cause: error });
  }
}

async function claim(directory: string): Promise<{ release(): void }> {
  if (!existsSync(directory)) await makePrivateFolder(directory);
  await refuseOthers(directory);
  await chmod(directory, 0o700);
  const lock = lockBackup(directory);
  try {
    // Another backup may have been finished since.
    await refuseOthers(directory);
    return lock;
  } catch (error) {
    lock.release();
    throw error;
  }
}

async function refuseOthers(directory: string): Promise<void> {
  const names = await readdir(directory);
  if (names.includes(RECORDS_FILE)) {
    throw new BackupError(`${directory} holds a finished backup. Choose another directory for a new one.`);
  }
  if (names.some((name) => !OWN_FILES.test(name))) {
    throw new BackupError(`${directory} holds other things. Choose a new directory for the backup.`);
  }
}

function lockBackup(directory: string): { release(): void } {
  try {
    return lockDataDirectory(directory);
  } catch (error) {
    if (!(error instanceof DataDirectoryLockedError)) throw error;
    throw new BackupError(
      `Another backup is being written to ${directory}. Wait for it, or choose another directory.`,
      {
        cause: error,
      },
    );
  }
}
