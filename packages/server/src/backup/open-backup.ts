/** Opens a finished backup: both files checked whole, and which stores its keys are for; spec/envelope.md § Restoring. */

import { open, type FileHandle } from "node:fs/promises";
import { join, resolve } from "node:path";

import type { KeyRow, PortableRow } from "../storage/portable.js";
import { codeOf } from "../startup-error.js";
import { KEYS_FILE, RECORDS_FILE } from "./backup-directory.js";
import { BackupError, DamagedBackupError } from "./errors.js";
import { decodeLine, decodeRowOf, isRowType, type RowType } from "./format.js";
import { mergeRuns } from "./groups.js";
import { readLayout, type FinishedLayout } from "./layout.js";
import { readLines } from "./line-file.js";
import { compareStores, placeOf, type RecordSource, type SourceRecord, type StoreRef } from "./source.js";

export interface Backup extends RecordSource {
  /** SHA-256 of each file, hexadecimal. */
  digests: { records: string; keys: string };
  /** When the state was current that its records are of; RFC 3339. */
  asOf: string;
  /** Stores that have no keys: destroyed before the keys were backed up. Their records are left out. */
  destroyed: readonly StoreRef[];
  /** Rows of the tables, in the order in which they can be put back. */
  rows(): AsyncGenerator<{ type: RowType; row: PortableRow }>;
  close(): Promise<void>;
}

export interface OpenBackupOptions {
  directory: string;
  /** Another file of keys than the directory's own. */
  keysFile?: string | undefined;
  onProgress?: ((done: number, total: number) => void) | undefined;
}

/**
 * Opens a backup after a check of every line of it.
 * @throws {DamagedBackupError} naming the first line that is not as it was written.
 * @throws {BackupError} when a file is missing or not finished, or the two are not of one backup.
 */
export async function openBackup({ directory, keysFile, onProgress }: OpenBackupOptions): Promise<Backup> {
  const name = join(resolve(directory), RECORDS_FILE);
  const { keys, digest: keysDigest } = await readKeys(resolve(keysFile ?? join(directory, KEYS_FILE)));
  const file = await openFile(name);
  try {
    const stores: StoreRef[] = [];
    const layout = await readLayout({
      file,
      name,
      content: "records",
      onRow(type, { project, id, destroyed_at }) {
        if (type === "stores" && destroyed_at === null) stores.push({ project: String(project), store: String(id) });
      },
      ...(onProgress && { onProgress }),
    });
    if (keysFile === undefined && layout.end.keys !== keysDigest) {
      throw new BackupError(
        `The two files in ${resolve(directory)} are not of one backup. Put the right ${KEYS_FILE} there, or name another with --keys.`,
      );
    }
    return toBackup({ file, name, layout, stores, keys, keysDigest });
  } catch (error) {
    await file.close();
    throw error;
  }
}

interface Parts {
  file: FileHandle;
  name: string;
  layout: FinishedLayout;
  stores: StoreRef[];
  keys: KeyRow[];
  keysDigest: string;
}

function toBackup({ file, name, layout, stores, keys, keysDigest }: Parts): Backup {
  const withKeys = new Set(keys.map(placeOf));
  const live = stores.filter((store) => withKeys.has(placeOf(store))).sort(compareStores);
  const livePlaces = new Set(live.map(placeOf));
  return {
    stores: live,
    destroyed: stores.filter((store) => !withKeys.has(placeOf(store))).sort(compareStores),
    // Keys may be newer than the records, and of stores that were made since.
    keys: keys.filter((key) => livePlaces.has(placeOf(key))),
    digests: { records: layout.digest, keys: keysDigest },
    asOf: layout.end.asOf,
    records: () => records(file, name, layout, livePlaces),
    rows: () => rows(file, name, layout),
    close: () => file.close(),
  };
}

async function* records(
  file: FileHandle,
  name: string,
  layout: FinishedLayout,
  live: ReadonlySet<string>,
): AsyncGenerator<SourceRecord> {
  let count = 0;
  let versions = 0;
  for await (const { record, bodies } of mergeRuns(file, name, layout.runs)) {
    count++;
    versions += record.versions.length;
    if (live.has(placeOf(record))) yield { record, bodies };
  }
  if (count !== layout.end.records || versions !== layout.end.versions) {
    throw new DamagedBackupError(name, layout.end.lines + 1, "its counts are not those of the records before it");
  }
}

async function* rows(file: FileHandle, name: string, layout: FinishedLayout) {
  for await (const { bytes, number } of readLines(file, layout.rows)) {
    const line = bytes && decodeLine(bytes);
    const row = line && isRowType(line.type, "records") ? decodeRowOf(line.type, line.value) : null;
    if (line === null || row === null) {
      throw new DamagedBackupError(name, number, "it was changed since the file was checked");
    }
    yield { type: line.type as RowType, row };
  }
}

async function readKeys(name: string): Promise<{ keys: KeyRow[]; digest: string }> {
  const file = await openFile(name);
  try {
    const keys: KeyRow[] = [];
    // Of store_keys there is one table, and its rows are checked against its columns.
    const onRow = (_type: RowType, row: PortableRow) => void keys.push(row as unknown as KeyRow);
    const { digest } = await readLayout({ file, name, content: "keys", onRow });
    return { keys, digest };
  } finally {
    await file.close();
  }
}

async function openFile(name: string): Promise<FileHandle> {
  try {
    return await open(name, "r");
  } catch (error) {
    const code = codeOf(error);
    if (code === undefined) throw error;
    throw new BackupError(
      code === "ENOENT"
        ? `There is no ${name}: name the directory of a finished backup. (One that was interrupted has .partial files: run the backup again to finish it.)`
        : `Cannot read ${name} (${code}): make it a file that this user can read.`,
      { cause: error },
    );
  }
}
