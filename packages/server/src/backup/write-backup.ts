/** Writes what a snapshot holds to a backup's two files, or finishes what was begun; spec/envelope.md § Backups. */

import { ADMINISTRATION, KEYS, type AdministrationTable, type KeysTable } from "../storage/portable.js";
import { compareRefs } from "../storage/record-store.js";
import type { Snapshot } from "../storage/snapshot.js";
import type { BackupDirectory } from "./backup-directory.js";
import { BackupError } from "./errors.js";
import { FORMAT, encodeBody, encodeGone, encodeRecord, encodeRow, type Content, type End } from "./format.js";
import { mergeRuns, type Group } from "./groups.js";
import { MAX_RUNS, readPartialLayout, type Layout } from "./layout.js";
import { LineWriter } from "./line-file.js";
import { sideBySide } from "./side-by-side.js";
import { Progress, refOf, snapshotSource, type SourceRecord } from "./source.js";

export interface BackupSummary {
  /** What the backup holds. */
  stores: number;
  records: number;
  versions: number;
  /** Records that an interrupted run had written already, and that have not changed since. */
  kept: number;
}

export interface BackupOptions {
  snapshot: Snapshot;
  /** When the snapshot was taken. */
  takenAt: Date;
  directory: BackupDirectory;
  onProgress?: (done: number, total: number) => void;
}

/**
 * Writes the backup and puts it in its place. When this resolves it is on the disk.
 * @throws {BackupError} when it was interrupted too often.
 * @throws {StorageError} or what the system says; the same call then goes on where this one stopped.
 */
export async function writeBackup(options: BackupOptions): Promise<BackupSummary> {
  const { snapshot, takenAt, directory } = options;
  const asOf = takenAt.toISOString();
  const source = await snapshotSource(snapshot);
  const { layout, writer } = await takeUp(options);
  const summary = { stores: source.stores.length, records: 0, versions: 0, kept: 0 };
  const progress = new Progress(source.stores);
  await writer.write("run", String(layout.runs.length + 1));
  const before = mergeRuns(directory.records, directory.recordsName, layout.runs);
  const places = (old: Group, found: SourceRecord) => compareRefs(old.ref, refOf(found));
  for await (const [old, found] of sideBySide(before, source.records(), places)) {
    if (found === null) {
      await writer.write("gone", encodeGone(old.ref));
      continue;
    }
    const text = encodeRecord(found.record);
    if (old?.text === text) summary.kept++;
    else await writeGroup(writer, found, text);
    summary.records++;
    summary.versions += found.record.versions.length;
    if (summary.records % 100 === 0) options.onProgress?.(progress.at(found.record), progress.total);
  }

  // Keys and rows are of the same snapshot as the records: they cover all that those refer to.
  const keys = await writeKeys(options, asOf);
  for (const table of Object.keys(ADMINISTRATION) as AdministrationTable[]) await writeRows(writer, snapshot, table);
  const { records, versions } = summary;
  await writeEnd(writer, { asOf, lines: writer.lines, records, versions, keys, sha256: writer.digest() });
  await directory.finish();
  return summary;
}

/** What is whole of an earlier run, and a writer that goes on behind it. */
async function takeUp({
  snapshot,
  takenAt,
  directory,
}: BackupOptions): Promise<{ layout: Layout; writer: LineWriter }> {
  const { records: file, recordsName: name } = directory;
  const found = await readPartialLayout({ file, name, content: "records" });
  if (found !== null) {
    if (found.runs.length === MAX_RUNS) {
      throw new BackupError(`This backup was interrupted ${MAX_RUNS} times. Delete it and begin anew.`);
    }
    const { start, number } = found.rows;
    return { layout: found, writer: await LineWriter.open(file, start, number - 1) };
  }
  const writer = await LineWriter.open(file, 0, 0);
  const header = headerOf("records", snapshot, takenAt);
  await writer.write("header", JSON.stringify(header));
  return { layout: { header, runs: [], rows: { start: 0, end: 0, number: 1 } }, writer };
}

async function writeGroup(writer: LineWriter, found: SourceRecord, text: string): Promise<void> {
  await writer.write("record", text);
  for await (const body of found.bodies()) await writer.write("body", encodeBody(body));
}

/** Gives the digest of the file. */
async function writeKeys({ snapshot, takenAt, directory }: BackupOptions, asOf: string): Promise<string> {
  const writer = await LineWriter.open(directory.keys, 0, 0);
  await writer.write("header", JSON.stringify(headerOf("keys", snapshot, takenAt)));
  for (const table of Object.keys(KEYS) as KeysTable[]) await writeRows(writer, snapshot, table);
  await writeEnd(writer, { asOf, lines: writer.lines, sha256: writer.digest() });
  return writer.digest();
}

async function writeRows(
  writer: LineWriter,
  snapshot: Snapshot,
  table: AdministrationTable | KeysTable,
): Promise<void> {
  const { [table]: shape } = { ...ADMINISTRATION, ...KEYS };
  for await (const row of snapshot.rows(table)) await writer.write(table, encodeRow(shape, row));
}

async function writeEnd(writer: LineWriter, end: End): Promise<void> {
  await writer.write("end", JSON.stringify(end));
  await writer.sync();
}

function headerOf(content: Content, snapshot: Snapshot, takenAt: Date): Layout["header"] {
  return { format: FORMAT, content, schema: snapshot.schema, begunAt: takenAt.toISOString() };
}
