/** Reads a backup's file from its beginning to its end and finds out what is where; spec/envelope.md § Backups. */

import { createHash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";

import { SCHEMAS } from "../storage/migrations.js";
import type { PortableRow } from "../storage/portable.js";
import { compareRefs, type RecordRef } from "../storage/record-store.js";
import { BackupError, DamagedBackupError } from "./errors.js";
import {
  FORMAT,
  decodeBody,
  decodeGone,
  decodeLine,
  decodeObject,
  decodeRecord,
  decodeRowOf,
  isRowType,
  type Content,
  type End,
  type Header,
  type Line,
  type RowType,
} from "./format.js";
import { readLines, type Range } from "./line-file.js";

/** Each run of a backup is read through a place of its own in the file. */
export const MAX_RUNS = 64;

/** Where things are in a file. */
export interface Layout {
  header: Header;
  /** The groups of each run, its own line left out. */
  runs: Range[];
  /** The rows of tables. */
  rows: Range;
}

export interface FinishedLayout extends Layout {
  end: End;
  /** SHA-256 over the whole file, hexadecimal. */
  digest: string;
}

export interface LayoutOptions {
  file: FileHandle;
  /** Names the file in errors. */
  name: string;
  content: Content;
  /** Gets every row of the tables, in the order of the file. */
  onRow?: (type: RowType, row: PortableRow) => void;
  /** Gets the offset that was reached, now and then, and the file's size. */
  onProgress?: (done: number, total: number) => void;
}

/**
 * Checks every line of a finished file.
 * @throws {DamagedBackupError} at the first line that is not as it was written.
 * @throws {BackupError} when the file is not finished, or of another format or a newer program.
 */
export async function readLayout(options: LayoutOptions): Promise<FinishedLayout> {
  const reader = new LayoutReader(options);
  await feed(options, reader);
  return reader.finished();
}

/** What is whole of a file in which a backup was interrupted; null when it is of no use. Its rows are empty. */
export async function readPartialLayout(options: LayoutOptions): Promise<Layout | null> {
  const reader = new LayoutReader(options);
  try {
    await feed(options, reader);
  } catch (error) {
    if (!(error instanceof BackupError)) throw error;
  }
  return reader.partial();
}

async function feed({ file, onProgress }: LayoutOptions, reader: LayoutReader): Promise<void> {
  const { size } = await file.stat();
  for await (const { bytes, number, end } of readLines(file, { start: 0, end: size, number: 1 })) {
    reader.accept(bytes, number, end);
    if (number % 1_000 === 0) onProgress?.(end, size);
  }
}

/** Where a line begins. */
type Place = Omit<Range, "end">;

/** Gets the lines one by one and knows which may come next. */
class LayoutReader {
  readonly #options: LayoutOptions;
  readonly #hash = createHash("sha256");
  readonly #runs: Range[] = [];
  #header: Header | null = null;
  #end: End | null = null;
  /** Sizes of the bodies that the record before announced, the next one last. */
  #bodies: number[] = [];
  /** The record before in this run. */
  #last: RecordRef | null = null;
  /** Behind the header, or the last whole group. */
  #groupsEnd: Place = { start: 0, number: 1 };
  /** Where the rows begin; null before the first of them. */
  #rows: Place | null = null;
  /** Where the line begins that is being read. */
  #place: Place = { start: 0, number: 1 };

  #rowsEnd = 0;

  constructor(options: LayoutOptions) {
    this.#options = options;
  }

  accept(bytes: Buffer | null, number: number, end: number): void {
    if (bytes === null) throw this.#damage("it is cut off");
    if (this.#end !== null) throw this.#damage("something follows the last line");
    const line = decodeLine(bytes);
    if (line === null) throw this.#damage("it does not fit its check");
    this.#acceptLine(line, end);
    this.#hash.update(bytes).update("\n");
    this.#place = { start: end, number: number + 1 };
    if (this.#rows !== null || this.#bodies.length > 0 || line.type === "run") return;
    this.#groupsEnd = this.#place;
    const run = this.#runs.at(-1);
    if (run !== undefined) run.end = end;
  }

  finished(): FinishedLayout {
    if (this.#header === null || this.#end === null || this.#rows === null) {
      throw new BackupError(
        `${this.#options.name} is not finished: it ends after line ${this.#place.number - 1}. ` +
          "Run the backup again to finish it, or use another one.",
      );
    }
    const rows = { ...this.#rows, end: this.#rowsEnd };
    return { header: this.#header, runs: this.#runs, rows, end: this.#end, digest: this.#hash.digest("hex") };
  }

  partial(): Layout | null {
    if (this.#header === null || this.#header.schema !== SCHEMAS.at(-1)) return null;
    const runs = this.#runs.filter(({ start, end }) => end > start);
    return { header: this.#header, runs, rows: { ...this.#groupsEnd, end: this.#groupsEnd.start } };
  }

  #acceptLine({ type, value }: Line, end: number): void {
    if (type === "body" ? this.#bodies.length === 0 : this.#bodies.length > 0) throw this.#damage("it is out of place");
    if ((type === "header") !== (this.#header === null)) throw this.#damage("it is out of place");
    if (type === "header") this.#header = this.#readHeader(value);
    else if (type === "run") this.#beginRun(end);
    else if (type === "record") this.#beginGroup(value);
    else if (type === "gone") this.#follow(decodeGone(value));
    else if (type === "body") this.#readBody(value);
    else if (type === "end") this.#end = this.#readEnd(value);
    else this.#readRow(type, value);
  }

  #readHeader(value: string): Header {
    const { format, content, schema, begunAt } = decodeObject(value) ?? {};
    const { name } = this.#options;
    if (format !== FORMAT || typeof schema !== "string" || !SCHEMAS.includes(schema)) {
      throw new BackupError(`${name} was made by a newer version of Tacenda. Use that version or a newer one.`);
    }
    if (content !== this.#options.content) {
      throw new BackupError(`${name} is a file of ${String(content)}, and one of ${this.#options.content} is needed.`);
    }
    if (typeof begunAt !== "string") throw this.#damage("it is no header");
    return { format, content: this.#options.content, schema, begunAt };
  }

  #beginRun(end: number): void {
    if (this.#options.content !== "records" || this.#rows !== null || this.#runs.length === MAX_RUNS) {
      throw this.#damage("it is out of place");
    }
    this.#runs.push({ start: end, end, number: this.#place.number + 1 });
    this.#last = null;
  }

  #beginGroup(value: string): void {
    const record = decodeRecord(value);
    this.#follow(record && { ...record, id: record.record_id });
    this.#bodies = (record?.versions ?? []).map(({ size }) => size).reverse();
  }

  /** Checks that the records of a run come in their order, each once. */
  #follow(ref: RecordRef | null): void {
    if (ref === null) throw this.#damage("it is no record");
    if (this.#runs.length === 0 || this.#rows !== null) throw this.#damage("it is out of place");
    if (this.#last !== null && compareRefs(this.#last, ref) >= 0) throw this.#damage("its record is out of order");
    this.#last = ref;
  }

  #readBody(value: string): void {
    if (decodeBody(value)?.length !== this.#bodies.pop()) throw this.#damage("it is not the body that was announced");
  }

  #readRow(type: string, value: string): void {
    const { content, onRow } = this.#options;
    if (!isRowType(type, content)) throw this.#damage("it is out of place");
    const row = decodeRowOf(type, value);
    if (row === null) throw this.#damage("it is no row of its table");
    this.#rows ??= this.#place;
    onRow?.(type, row);
  }

  #readEnd(value: string): End {
    const { asOf, lines, sha256, records, versions, keys } = (decodeObject(value) ?? {}) as Partial<End>;
    if (lines !== this.#place.number - 1 || sha256 !== this.#hash.copy().digest("hex") || typeof asOf !== "string") {
      throw this.#damage("lines before it are missing, moved or changed");
    }
    this.#rows ??= this.#place;
    this.#rowsEnd = this.#place.start;
    if (this.#options.content === "keys") return { asOf, lines, sha256 };
    if (records === undefined || versions === undefined || keys === undefined)
      throw this.#damage("it lacks its counts");
    return { asOf, lines, sha256, records, versions, keys };
  }

  #damage(what: string): DamagedBackupError {
    return new DamagedBackupError(this.#options.name, this.#place.number, what);
  }
}
