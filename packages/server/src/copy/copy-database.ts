/** Copies what a snapshot holds into another database, or finishes what was begun; spec/envelope.md § Copying. */

import { randomUUID } from "node:crypto";

import { DEFAULT_PROJECT } from "@tacenda/protocol";

import { Batches, recordRows } from "../backup/batches.js";
import { encodeRecord } from "../backup/format.js";
import { sideBySide } from "../backup/side-by-side.js";
import { Progress, compareRecords, everyRecord, snapshotSource, type SourceRecord } from "../backup/source.js";
import type { Database } from "../storage/database.js";
import { ROW_TABLES, type RowTable } from "../storage/portable.js";
import {
  CLOSED_MARK,
  RESTORE_MARK,
  readClosedMark,
  readCopyMark,
  type ClosedMark,
  type CopyMark,
} from "../storage/restoration.js";
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

interface CopySummary {
  stores: number;
  records: number;
  versions: number;
  /** Records that an interrupted copy had written already, and that have not changed since. */
  kept: number;
}

/** A copy that is complete, and that no server serves yet. */
export interface Copy extends CopySummary {
  /** From now on servers serve the target. @throws as copyDatabase does */
  end(): Promise<void>;
}

/**
 * Makes the target hold what the snapshot holds. Until its `end` no server serves it. After an interruption the same call goes on:
 * records that are there as they should be stay, others are replaced or deleted. Which are is told by all that is beside their
 * bodies, for no body changes without it.
 * @throws {CopyError} when the target holds anything but an unfinished copy of the same database; it is left as it is. Of a copy
 * that closed the source and is finished this says so.
 * @throws {BackupError} when another copy or restore has taken over the target.
 * @throws {StorageError}
 */
export async function copyDatabase(options: CopyOptions): Promise<Copy> {
  const { snapshot, target } = options;
  const { noted, mark } = await takeUp(options);
  const batches = new Batches(target.restoration, noted, () => mark);
  // What a killed process had under way has been carried out by then, or never will be.
  await batches.flush();
  const summary = await copyRecords(options, batches);
  await copyRows(snapshot, batches);
  await batches.flush();
  return { ...summary, end: () => batches.end() };
}

/** There are few of them beside the records: all are written anew. */
async function copyRows(snapshot: Snapshot, batches: Batches): Promise<void> {
  const tables = Object.keys(ROW_TABLES) as RowTable[];
  // No row goes before one that refers to it.
  for (const table of tables.toReversed()) await batches.add({ table, as: "emptied", row: {} });
  for (const table of tables) {
    for await (const row of rowsToCopy(snapshot, table)) await batches.add({ table, as: "row", row });
  }
  // A token may come before the one that minted it.
  for await (const row of snapshot.rows("tokens")) {
    if (row.minted_by !== null) await batches.add({ table: "tokens", as: "reference", row: { ...row } });
  }
}

/** The rows of a table, but for settings that are of one database alone. */
export async function* rowsToCopy(snapshot: Snapshot, table: RowTable) {
  for await (const row of snapshot.rows(table)) {
    if (!("name" in row && "value" in row && OWN_SETTINGS.includes(row.name))) yield { ...row };
  }
}

/** What is noted in the target, and what is to be. @throws {CopyError} */
async function takeUp(options: CopyOptions): Promise<{ noted: string | null; mark: string }> {
  const { snapshot, target, targetName } = options;
  const mark: CopyMark = { copyOf: await originOf(snapshot), run: randomUUID() };
  const noted = await target.directory.getSetting(RESTORE_MARK);
  const found = noted === null ? null : readCopyMark(noted);
  if (noted === null ? await target.restoration.isEmpty() : found?.copyOf === mark.copyOf) {
    return { noted, mark: JSON.stringify(mark) };
  }
  const elsewhere = "copy into a data directory that is new, or an empty database.";
  if (noted === null && (await isFinished(options))) {
    throw new CopyError(
      `This copy is finished, and nothing was done: serve ${targetName}, with the same keyring or key providers.`,
    );
  }
  if (noted === null) throw new CopyError(`There is something in ${targetName} already: ${elsewhere}`);
  throw new CopyError(
    found === null
      ? `A backup is half restored in ${targetName}: finish that, or ${elsewhere}`
      : `A copy of another database is half done in ${targetName}: finish that one, or ${elsewhere}`,
  );
}

/** Whether the source was closed for this target, which has its origin. Of a source that was not closed nobody can tell. */
async function isFinished({ snapshot, openTarget, targetName }: CopyOptions): Promise<boolean> {
  let closed: ClosedMark | null = null;
  for await (const { name, value } of snapshot.rows("settings")) {
    if (name === CLOSED_MARK) closed = readClosedMark(value);
  }
  if (closed?.to !== targetName || closed.run !== undefined) return false;
  const there = await openTarget();
  try {
    return (await originOf(there)) === (await originOf(snapshot));
  } finally {
    await there.close();
  }
}

/** When the database was made, in milliseconds: its first project is made with it, and never again. */
async function originOf(snapshot: Snapshot): Promise<number> {
  for await (const { id, created_at } of snapshot.rows("projects")) {
    if (id === DEFAULT_PROJECT) return created_at;
  }
  return 0;
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
    for await (const { row, body } of recordRows(found)) await batches.add(row, body?.length);
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
