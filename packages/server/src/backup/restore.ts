/** Puts a backup into an empty database, or finishes what was begun; spec/envelope.md § Restoring. */

import { ACTIVE_PROVIDER_SETTING, type KeyProviders } from "../envelope/key-providers.js";
import type { Database } from "../storage/database.js";
import type { PortableRow } from "../storage/portable.js";
import type { RecordSummary } from "../storage/snapshot.js";
import { RESTORE_MARK, readCopyMark } from "../storage/restoration.js";
import { Batches, recordRows, type RecordRows } from "./batches.js";
import { BackupError } from "./errors.js";
import type { RowType } from "./format.js";
import type { Backup } from "./open-backup.js";
import { Progress, placeOf, type StoreRef } from "./source.js";
import { requireWholeKeys } from "./store-keys.js";

/** Order and number of the rows below. Whoever changes either counts this up. */
const SEQUENCE = 1;

const ELSEWHERE =
  "restore into a data directory that is new, or an empty database: choose another --data-dir (or --database-url, TACENDA_DATABASE_URL).";

/** How far a restore has come, and of what. */
interface Mark {
  sequence: number;
  records: string;
  keys: string;
  /** Rows that are in the database. */
  rows: number;
}

export interface RestoreOptions {
  backup: Backup;
  database: Database;
  /** Names the database in errors. */
  name: string;
  /** When the restore began, milliseconds since the epoch. */
  now: number;
  onProgress?: ((done: number, total: number) => void) | undefined;
}

export interface RestoreSummary {
  stores: number;
  records: number;
  versions: number;
}

/**
 * Checks that every key of the backup opens, and that every record's is among them. A restore does this before it writes anything.
 * @throws {BackupError} naming the first key that does not, or both providers when it is another one.
 * @throws {KeyProviderError} when the provider cannot be reached.
 */
export async function requireKeys(backup: Backup, providers: KeyProviders): Promise<void> {
  await requireWholeKeys(backup.keys, providers, "restored");
  await requireDataKeys(backup);
}

/** Keys of a later backup may lack data keys that were given up after the records were encrypted anew. */
async function requireDataKeys(backup: Backup): Promise<void> {
  const nameOf = (store: StoreRef, version: number) => `${placeOf(store)} ${version}`;
  const there = new Set(backup.keys.flatMap((key) => (key.purpose === "data" ? [nameOf(key, key.version)] : [])));
  for await (const { record } of backup.records()) {
    const lacking = record.versions.find(
      ({ key_version: version }) => version !== null && !there.has(nameOf(record, version)),
    );
    if (lacking === undefined) continue;
    throw new BackupError(
      `Nothing was restored, for records of store ${placeOf(record)} need its data key ${lacking.key_version ?? ""}, which is not in the ` +
        "file of keys: the store was re-encrypted since. Restore with the keys.jsonl of the same backup.",
    );
  }
}

/**
 * Restores the backup. Each batch and how far it goes are committed together, so that the same call goes on where an
 * interrupted one stopped.
 * @throws {BackupError} when the database holds anything but this very restore, interrupted; it is left as it is.
 * @throws {StorageError}
 */
export async function restoreBackup(options: RestoreOptions): Promise<RestoreSummary> {
  const { backup, database, onProgress } = options;
  const mark: Mark = { sequence: SEQUENCE, ...backup.digests, rows: 0 };
  const noted = await notedMark(options, mark);
  const done = noted === null ? 0 : (JSON.parse(noted) as Mark).rows;

  const summary: RestoreSummary = { stores: backup.stores.length, records: 0, versions: 0 };
  const progress = new Progress(backup.stores);
  const batches = new Batches(database.restoration, noted, () => JSON.stringify(mark));
  if (noted === null) await batches.flush();
  for await (const { row, body, record } of sequence(options)) {
    mark.rows++;
    if (record !== undefined) {
      if (++summary.records % 100 === 0) onProgress?.(progress.at(record), progress.total);
    } else if (body !== undefined) {
      summary.versions++;
    }
    if (mark.rows > done) await batches.add(row, body?.length);
  }
  await batches.end();
  return summary;
}

/** What an interrupted restore has noted; null when the database is empty. */
async function notedMark({ database, name }: RestoreOptions, mark: Mark): Promise<string | null> {
  const { directory, restoration } = database;
  const text = await directory.getSetting(RESTORE_MARK);
  if (text === null) {
    if (await restoration.isEmpty()) return null;
    throw new BackupError(`There is something in ${name} already: ${ELSEWHERE}`);
  }
  if (readCopyMark(text) !== null) {
    throw new BackupError(`A copy is half done in ${name}: finish it, or ${ELSEWHERE}`);
  }
  const found = JSON.parse(text) as Mark;
  if (found.sequence === mark.sequence && found.records === mark.records && found.keys === mark.keys) return text;
  throw new BackupError(
    `Another backup, or this one with other keys, is half restored in ${name}: finish that restore, or ${ELSEWHERE}`,
  );
}

interface Step extends RecordRows {
  /** When it is a record, and not one of its versions. */
  record?: RecordSummary;
}

/** All rows of the backup in an order that depends on nothing but its files. */
async function* sequence({ backup, now }: RestoreOptions): AsyncGenerator<Step> {
  for await (const found of backup.records()) {
    for await (const step of recordRows(found)) {
      yield step.body === undefined ? { ...step, record: found.record } : step;
    }
  }
  const destroyed = new Set(backup.destroyed.map(placeOf));
  for await (const { type, row } of backup.rows()) {
    const store = storeOf(type, row);
    // Where it is restored to, other providers may be configured.
    if (type === "settings" && nameOf(row) === ACTIVE_PROVIDER_SETTING) continue;
    const isDestroyed = store !== null && destroyed.has(placeOf(store));
    if (isDestroyed && type !== "stores") continue;
    yield { row: { table: type, as: "row", row: isDestroyed ? { ...row, destroyed_at: now } : row } };
  }
  for (const key of backup.keys) yield { row: { table: "store_keys", as: "row", row: { ...key } } };
  // A token may come before the one that minted it.
  for await (const { type, row } of backup.rows()) {
    const { minted_by: mintedBy } = row;
    if (type === "tokens" && mintedBy !== null) yield { row: { table: type, as: "reference", row } };
  }
}

function nameOf({ name }: PortableRow) {
  return name;
}

/** The store that a row is, or is of; null when it is of none. */
function storeOf(type: RowType, { project, store, id }: PortableRow): StoreRef | null {
  const name = type === "stores" ? id : store;
  return typeof project === "string" && typeof name === "string" ? { project, store: name } : null;
}
