/** Reads and writes files of lines, a bounded part of them at a time; spec/envelope.md § Lines. */

import { createHash, type Hash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";

import { MAX_RECORD_BYTES } from "@tacenda/protocol";

import { encodeLine, type LineType } from "./format.js";

const CHUNK_BYTES = 262_144;
/** No line is longer: a body as base64url, or a record with a thousand versions. */
const MAX_LINE_BYTES = 2 * MAX_RECORD_BYTES;

/** A line as it stands in a file, its line feed left out. */
export interface RawLine {
  /** Null when it is longer than any line may be, or the file ends before its line feed. */
  bytes: Buffer | null;
  /** Counts from 1. */
  number: number;
  /** Offset behind its line feed. */
  end: number;
}

/** Where to begin and end; `number` is that of the first line. */
export interface Range {
  start: number;
  end: number;
  number: number;
}

/** The lines of a part of the file. A line whose bytes are null is the last. */
export async function* readLines(file: FileHandle, { start, end, number }: Range): AsyncGenerator<RawLine> {
  let rest: Buffer = Buffer.alloc(0);
  let position = start;
  let lineEnd = start;
  while (position < end) {
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, end - position));
    const { bytesRead } = await file.read(chunk, 0, chunk.length, position);
    if (bytesRead === 0) break;
    position += bytesRead;
    const bytes = rest.length > 0 ? Buffer.concat([rest, chunk.subarray(0, bytesRead)]) : chunk.subarray(0, bytesRead);
    let from = 0;
    for (let to = bytes.indexOf(10); to >= 0; to = bytes.indexOf(10, from)) {
      lineEnd += to + 1 - from;
      yield { bytes: bytes.subarray(from, to), number: number++, end: lineEnd };
      from = to + 1;
    }
    rest = bytes.subarray(from);
    if (rest.length > MAX_LINE_BYTES) break;
  }
  if (rest.length > 0) yield { bytes: null, number, end: lineEnd + rest.length };
}

/** Appends lines to a file and keeps the digest and the number of all that are in it. */
export class LineWriter {
  /** Lines in the file, those that wait to be written included. */
  lines: number;
  readonly #file: FileHandle;
  readonly #hash: Hash;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #position: number;

  private constructor(file: FileHandle, hash: Hash, position: number, lines: number) {
    this.#file = file;
    this.#hash = hash;
    this.#position = position;
    this.lines = lines;
  }

  /** Goes on behind the first `length` bytes of the file, which are `lines` lines; what comes after them is cut off. */
  static async open(file: FileHandle, length: number, lines: number): Promise<LineWriter> {
    const hash = createHash("sha256");
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    let position = 0;
    while (position < length) {
      const { bytesRead } = await file.read(chunk, 0, Math.min(chunk.length, length - position), position);
      hash.update(chunk.subarray(0, bytesRead));
      position += bytesRead;
    }
    await file.truncate(length);
    return new LineWriter(file, hash, length, lines);
  }

  /** Offset behind the last line. */
  get end(): number {
    return this.#position + this.#waitingBytes;
  }

  /** Waits for the disk when much has gathered. */
  async write(type: LineType, value: string): Promise<void> {
    const line = encodeLine(type, value);
    this.#hash.update(line);
    this.#waiting.push(line);
    this.#waitingBytes += line.length;
    this.lines++;
    if (this.#waitingBytes >= CHUNK_BYTES) await this.flush();
  }

  /** SHA-256 over all lines so far, hexadecimal. */
  digest(): string {
    return this.#hash.copy().digest("hex");
  }

  async flush(): Promise<void> {
    const bytes = Buffer.concat(this.#waiting);
    this.#waiting = [];
    this.#waitingBytes = 0;
    for (let written = 0; written < bytes.length;) {
      const { bytesWritten } = await this.#file.write(bytes, written, bytes.length - written, this.#position);
      written += bytesWritten;
      this.#position += bytesWritten;
    }
  }

  /** Resolves when all lines are on the disk. */
  async sync(): Promise<void> {
    await this.flush();
    await this.#file.sync();
  }
}
