/** Copies what a snapshot holds into another database, or finishes what was begun; spec/envelope.md § Copying. */

import { DEFAULT_PROJECT } from "@tacenda/protocol";

import { Batches, recordRows } from "../backup/batches.js";
import { encodeRecord } from "../backup/format.js";
import { sideBySide } from "../backup/side-by-side.js";
import { Progress, compareRecords, everyRecord, snapshotSource, type SourceRecord } from "../backup/source.js";
import type { Database } from "../storage/database.js";
import { ROW_TABLES, type RowTable } from "../storage/portable.js";
import { CLOSED_MARK, RESTORE_MARK, readCopyMark, type CopyMark } from "../storage/restoration.js";
import type { Snapshot } from "../storage/snapshot.js";
import { CopyError } from "./errors.js";

/** Settings that are of one database alone. */
const OWN_SETTINGS: readonly string[] = [RESTORE_MARK, CLOSED_MARK];

export interface CopyOptions {
  /** What to copy. */
  snapshot: Snapshot;
  target: Database;
  /** Names the target in errors. */
  targetName: string;
  /** What the target holds now. */
  openTarget: () => Promise<Snapshot>;
  onProgress?: ((done: number, total: number) => void) | undefined;
}

export interface CopySummary {
  stores: number;
  records: number;
  versions: number;
  /** Records that an interrupted copy had written already, and that have not changed since. */
  kept: number;
}

// Rows are put in the place of whatever is there, for the last commit of a killed process may come to its end beside this one.

/**
 * Makes the target hold what the snapshot holds. Until `endCopy` no server serves it. After an interruption the same call goes on:
 * records that are there as they should be stay, others are replaced or deleted. Which are is told by all that is beside their
 * bodies, for no body changes without it.
 * @throws {CopyError} when the target holds anything but an unfinished copy of the same database; it is left as it is.
 * @throws {StorageError}
 */
export async function copyDatabase(options: CopyOptions): Promise<CopySummary> {
  const { snapshot, target } = options;
  const mark = JSON.stringify(await takeUp(options));
  // What a killed process had under way is there after this, or never.
  await target.restoration.commit([], mark);
  const batches = new Batches(target.restoration, () => mark);
  const summary = await copyRecords(options, batches);
  await batches.flush(mark);
  await target.restoration.clearRows();
  for (const table of Object.keys(ROW_TABLES) as RowTable[]) {
    for await (const row of rowsToCopy(snapshot, table)) await batches.add({ table, as: "replacement", row });
  }
  // A token may come before the one that minted it.
  for await (const row of snapshot.rows("tokens")) {
    if (row.minted_by !== null) await batches.add({ table: "tokens", as: "reference", row: { ...row } });
  }
  await batches.flush(mark);
  return summary;
}

/** From now on servers serve the target. */
export async function endCopy(target: Database): Promise<void> {
  await target.restoration.commit([], null);
}

/** The rows of a table, but for settings that are of one database alone. */
export async function* rowsToCopy(snapshot: Snapshot, table: RowTable) {
  for await (const row of snapshot.rows(table)) {
    if (!("name" in row && "value" in row && OWN_SETTINGS.includes(row.name))) yield { ...row };
  }
}

/** @throws {CopyError} */
async function takeUp({ snapshot, target, targetName }: CopyOptions): Promise<CopyMark> {
  const mark = await markOf(snapshot);
  const text = await target.directory.getSetting(RESTORE_MARK);
  if (text === null) {
    if (await target.restoration.isEmpty()) return mark;
    throw new CopyError(
      `There is something in ${targetName} already. Copy into a data directory that is new, or an empty database.`,
    );
  }
  const found = readCopyMark(text);
  if (found?.copyOf === mark.copyOf) return mark;
  throw new CopyError(
    found === null
      ? `A backup is half restored in ${targetName}. Copy into a data directory that is new, or an empty database.`
      : `A copy of another database is half done in ${targetName}. Finish that one, or copy into a data directory that is new, or an empty database.`,
  );
}

/** A database's first project is made with it, and never again. */
async function markOf(snapshot: Snapshot): Promise<CopyMark> {
  for await (const { id, created_at } of snapshot.rows("projects")) {
    if (id === DEFAULT_PROJECT) return { copyOf: created_at };
  }
  return { copyOf: 0 };
}

async function copyRecords({ snapshot, openTarget, onProgress }: CopyOptions, batches: Batches): Promise<CopySummary> {
  const source = await snapshotSource(snapshot);
  const summary = { stores: source.stores.length, records: 0, versions: 0, kept: 0 };
  const progress = new Progress(source.stores);
  for await (const [there, found] of sideBySide(recordsIn(openTarget), source.records(), compareRecords)) {
    if (found === null) {
      await remove(batches, there);
      continue;
    }
    summary.records++;
    summary.versions += found.record.versions.length;
    if (summary.records % 100 === 0) onProgress?.(progress.at(found.record), progress.total);
    if (there !== null && encodeRecord(there.record) === encodeRecord(found.record)) {
      summary.kept++;
      continue;
    }
    if (there !== null) await remove(batches, there);
    for await (const { row, body } of recordRows(found, "replacement")) await batches.add(row, body?.length);
  }
  return summary;
}

/**
 * What is there before. Mostly that ends before anything is written, and the snapshot with it: of SQLite's log nothing can be
 * given back as long as somebody reads an earlier state.
 */
async function* recordsIn(open: CopyOptions["openTarget"]): AsyncGenerator<SourceRecord> {
  const snapshot = await open();
  try {
    yield* everyRecord(snapshot);
  } finally {
    await snapshot.close();
  }
}

async function remove(batches: Batches, { record: { project, store, record_id } }: SourceRecord): Promise<void> {
  const row = { project, store, record_id };
  await batches.add({ table: "record_versions", as: "gone", row });
  await batches.add({ table: "records", as: "gone", row });
}
