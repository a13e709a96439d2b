/** Whether two databases hold the same: counts and digests of each store on both sides; spec/envelope.md § Copying. */

import { createHash, type Hash } from "node:crypto";
import { setImmediate } from "node:timers/promises";

import { encodeRecord, encodeRow } from "../backup/format.js";
import { sideBySide } from "../backup/side-by-side.js";
import {
  Progress,
  compareRecords,
  everyRecord,
  nameOf,
  placeOf,
  snapshotSource,
  type SourceRecord,
} from "../backup/source.js";
import { ROW_TABLES, type RowTable } from "../storage/portable.js";
import type { Snapshot } from "../storage/snapshot.js";
import { rowsToCopy } from "./copy-database.js";

/** Records of a store that are named when they differ. */
const NAMED_RECORDS = 10;
/** Records between two turns of the event loop. */
const STEP_RECORDS = 50;

export interface CompareOptions {
  source: Snapshot;
  target: Snapshot;
  /** Gets a sentence for each thing that is not the same. It names stores and blinded ids, and holds no key and no value. */
  onDifference: (what: string) => void;
  onProgress?: ((done: number, total: number) => void) | undefined;
}

export interface Comparison {
  /** Rows of the source, versions and those of all other tables included. */
  rows: number;
  /** Sentences that onDifference got. */
  differences: number;
  /** SHA-256 over all parts of the source, hexadecimal. */
  digest: string;
}

/** Reads both from begin to end. @throws {StorageError} */
export async function compareDatabases(options: CompareOptions): Promise<Comparison> {
  const { source, target } = options;
  const sides = { source: new Tally(), target: new Tally() };
  const comparison = { rows: 0, differences: 0, digest: "" };
  const report = (what: string) => {
    comparison.differences++;
    options.onDifference(what);
  };
  for (const table of Object.keys(ROW_TABLES) as RowTable[]) {
    await tallyRows(source, table, sides.source);
    await tallyRows(target, table, sides.target);
  }
  await tallyRecords(options, sides, report);
  const [before, after] = [sides.source.parts(), sides.target.parts()];
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    const [one, other] = [before.get(name) ?? NOTHING, after.get(name) ?? NOTHING];
    if (one.digest === other.digest && one.rows === other.rows) continue;
    report(
      `The ${name} differ: ` +
        (one.rows === other.rows
          ? `as many in source and target (${one.rows}), but not the same.`
          : `${one.rows} in the source, ${other.rows} in the target.`),
    );
  }
  // Of the source there may be versions that are not kept any more, and wait to be purged.
  const surplus = (await target.countVersions()) - sides.target.versions;
  if (surplus !== 0)
    report(`The target has ${surplus} versions that are of no record, or that its record does not keep.`);
  return { ...comparison, rows: sides.source.rows, digest: sides.source.digest() };
}

async function tallyRows(snapshot: Snapshot, table: RowTable, tally: Tally): Promise<void> {
  for await (const row of rowsToCopy(snapshot, table)) {
    const ofStore = "store" in row ? ` of store ${placeOf(row)}` : "";
    tally.add(`rows of ${table}${ofStore}`, encodeRow(ROW_TABLES[table], row));
  }
}

async function tallyRecords(
  { source, target, onProgress }: CompareOptions,
  sides: { source: Tally; target: Tally },
  report: (what: string) => void,
): Promise<void> {
  const held = await snapshotSource(source);
  const progress = new Progress(held.stores);
  const namedOf = new Map<string, number>();
  let count = 0;
  for await (const [one, other] of sideBySide(held.records(), everyRecord(target), compareRecords)) {
    const digests = await Promise.all([tallyRecord(one, sides.source), tallyRecord(other, sides.target)]);
    const { record } = one ?? other;
    if (digests[0] !== digests[1]) {
      const named = namedOf.get(placeOf(record)) ?? 0;
      if (named < NAMED_RECORDS) {
        report(
          `${nameOf(record)} ${one === null ? "is in the target only" : other === null ? "is missing in the target" : "is another one in the target"}.`,
        );
      }
      namedOf.set(placeOf(record), named + 1);
    }
    if (++count % STEP_RECORDS > 0) continue;
    onProgress?.(progress.at(record), progress.total);
    await setImmediate();
  }
  for (const [place, named] of namedOf) {
    const more = named - NAMED_RECORDS;
    if (more > 0)
      report(`So ${more === 1 ? "is" : "are"} ${more} more ${more === 1 ? "record" : "records"} of store ${place}.`);
  }
}

/** The digest of the record; undefined where there is none. */
async function tallyRecord(found: SourceRecord | null, tally: Tally): Promise<string | undefined> {
  if (found === null) return undefined;
  const hash = createHash("sha256").update(`${encodeRecord(found.record)}\n`);
  // Where a body ends is told by its size, which is in the line before.
  for await (const body of found.bodies()) hash.update(body);
  const digest = hash.digest("hex");
  tally.add(`records of store ${placeOf(found.record)}`, digest);
  tally.versions += found.record.versions.length;
  return digest;
}

interface Part {
  rows: number;
  digest: string;
}

const NOTHING: Part = { rows: 0, digest: createHash("sha256").digest("hex") };

/** Counts and digests what one side holds, part by part. */
class Tally {
  readonly #parts = new Map<string, { rows: number; hash: Hash }>();
  versions = 0;

  add(part: string, text: string): void {
    let found = this.#parts.get(part);
    if (found === undefined) {
      found = { rows: 0, hash: createHash("sha256") };
      this.#parts.set(part, found);
    }
    found.rows++;
    found.hash.update(`${text}\n`);
  }

  parts(): Map<string, Part> {
    return new Map(
      [...this.#parts].map(([name, { rows, hash }]) => [name, { rows, digest: hash.copy().digest("hex") }]),
    );
  }

  get rows(): number {
    return [...this.#parts.values()].reduce((sum, { rows }) => sum + rows, this.versions);
  }

  /** Over all parts, by their names. */
  digest(): string {
    const lines = [...this.parts()].map(([name, { rows, digest }]) => `${name} ${rows} ${digest}\n`);
    return createHash("sha256").update(lines.sort().join("")).digest("hex");
  }
}
