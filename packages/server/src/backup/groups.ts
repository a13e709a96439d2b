/** The records in a file whose runs replace each other, as one ordered sequence; spec/envelope.md § Runs. */

import type { FileHandle } from "node:fs/promises";

import { compareRefs, type RecordRef } from "../storage/record-store.js";
import type { RecordSummary } from "../storage/snapshot.js";
import { DamagedBackupError } from "./errors.js";
import { decodeBody, decodeGone, decodeLine, decodeRecord, type Line } from "./format.js";
import { readLines, type Range, type RawLine } from "./line-file.js";

/** A record as a run has it. */
export interface Group {
  ref: RecordRef;
  record: RecordSummary;
  /** The text that encodeRecord gave. */
  text: string;
  /** The bodies of its versions, once, and only before the next group is asked for. */
  bodies: () => AsyncGenerator<Uint8Array>;
}

/**
 * What the runs come to: of each record what the last run that has it says, and no record that is gone. Holds one line
 * per run at a time.
 * @throws {DamagedBackupError} when the file is not any more what its layout was read from.
 */
export async function* mergeRuns(file: FileHandle, name: string, runs: readonly Range[]): AsyncGenerator<Group> {
  const open = runs.map((range) => new Run(file, name, range));
  try {
    for (const run of open) await run.next();
    for (;;) {
      let newest: Run | null = null;
      for (const run of open) {
        // The later run wins where two have the same record.
        if (run.ref !== null && (newest?.ref == null || compareRefs(run.ref, newest.ref) <= 0)) newest = run;
      }
      if (newest?.ref == null) return;
      const { ref, group } = newest;
      if (group !== null) yield group;
      for (const run of open) if (run.ref !== null && compareRefs(run.ref, ref) === 0) await run.next();
    }
  } finally {
    for (const run of open) await run.close();
  }
}

/** One run on its way through the file. */
class Run {
  /** The record it is at; null at the end. */
  ref: RecordRef | null = null;
  /** Null when the record is gone. */
  group: Group | null = null;
  readonly #name: string;
  readonly #lines: AsyncGenerator<RawLine>;
  #bodiesLeft = 0;

  constructor(file: FileHandle, name: string, range: Range) {
    this.#name = name;
    this.#lines = readLines(file, range);
  }

  async next(): Promise<void> {
    for (; this.#bodiesLeft > 0; this.#bodiesLeft--) await this.#lines.next();
    this.ref = null;
    this.group = null;
    const found = await this.#lines.next();
    if (found.done === true) return;
    const { type, value } = this.#decode(found.value);
    const record = type === "record" ? decodeRecord(value) : null;
    const gone = type === "gone" ? decodeGone(value) : null;
    if (record !== null) {
      this.ref = { project: record.project, store: record.store, id: record.record_id };
      this.group = { ref: this.ref, record, text: value, bodies: () => this.#bodies() };
      this.#bodiesLeft = record.versions.length;
    } else if (gone !== null) {
      this.ref = gone;
    } else {
      throw this.#changed(found.value);
    }
  }

  async close(): Promise<void> {
    await this.#lines.return(undefined);
  }

  async *#bodies(): AsyncGenerator<Uint8Array> {
    while (this.#bodiesLeft > 0) {
      const found = await this.#lines.next();
      if (found.done === true) return;
      this.#bodiesLeft--;
      const { type, value } = this.#decode(found.value);
      const body = type === "body" ? decodeBody(value) : null;
      if (body === null) throw this.#changed(found.value);
      yield body;
    }
  }

  #decode(line: RawLine): Line {
    const decoded = line.bytes && decodeLine(line.bytes);
    if (decoded === null) throw this.#changed(line);
    return decoded;
  }

  #changed({ number }: RawLine): DamagedBackupError {
    return new DamagedBackupError(this.#name, number, "it was changed since the file was checked");
  }
}
