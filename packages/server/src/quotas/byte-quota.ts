/** Whether a project has room for a write, as far as this process knows; spec/http.md § Quotas. */

import { MIN_RECORD_BYTES, RecordState, parseHead, type RecordHead } from "@tacenda/protocol";

import { HttpError } from "../http/http-error.js";
import { VERSION_BYTES, type ByteCount } from "../storage/quota-store.js";
import type { StoredRecord } from "../storage/record-store.js";

/** What was written is remembered by pieces of time of this length, in milliseconds. */
const PIECE_MILLISECONDS = 1_000;
/** Pieces remembered. Older ones are taken together: a count that is so late has other troubles. */
const MAX_PIECES = 1_000;

/** The current version of a record, as far as it matters here. */
export interface PresentVersion {
  version: number;
  /** Length of the sealed record. */
  bytes: number;
  /** Neither the mark of a deletion nor of a move. */
  isValue: boolean;
}

/** One version to be written, and what it is written over; null if the record never existed. */
export interface MeasuredWrite {
  body: Uint8Array;
  head: Pick<RecordHead, "state">;
  purgeEarlier: boolean;
  before: PresentVersion | null;
}

export function measure(record: StoredRecord | null): PresentVersion | null {
  if (record === null) return null;
  const { current, kept } = record;
  const head = kept === null ? "" : parseHead(kept.body);
  const isValue = typeof head !== "string" && head.state === RecordState.value;
  return { version: current.version, bytes: kept?.body.length ?? 0, isValue };
}

/** The bytes of one project: those of the last count, and what this process has written since. */
export class ByteQuota {
  #limit: number;
  #count: ByteCount | null;
  /** Bytes by the begin of the piece of time, the oldest first. */
  readonly #pieces = new Map<number, number>();
  /** The bytes of all pieces. */
  #added = 0;

  constructor(limit: number, count: ByteCount | null) {
    this.#limit = limit;
    this.#count = count;
  }

  /** Takes what the database says now. What was written before the count began is in it. */
  update(limit: number, count: ByteCount | null): void {
    this.#limit = limit;
    this.#count = count;
    for (const [begin, bytes] of this.#pieces) {
      if (count === null || begin > count.at) break;
      this.#pieces.delete(begin);
      this.#added -= bytes;
    }
  }

  /**
   * What writes add together, in bytes, less what is deleted with them as far as that is known; may be negative. Nothing is
   * noted. `maxVersions`: how many versions are kept.
   * @throws {HttpError} `quota_exceeded` when the project has no room for them. Deletions need none.
   */
  admit(writes: readonly MeasuredWrite[], maxVersions: number): number {
    const adds = writes.reduce((sum, write) => sum + bytesOf(write, maxVersions), 0);
    if (writes.every(isDeletion)) return adds;
    const used = (this.#count?.bytes ?? 0) + this.#added;
    if (used >= this.#limit || used + adds > this.#limit) throw new HttpError("quota_exceeded");
    return adds;
  }

  /** Notes what was written. `now`: milliseconds since the epoch. */
  add(bytes: number, now: number): void {
    const begin = now - (now % PIECE_MILLISECONDS);
    this.#pieces.set(begin, (this.#pieces.get(begin) ?? 0) + bytes);
    this.#added += bytes;
    if (this.#pieces.size <= MAX_PIECES) return;
    const [[first, earlier] = [0, 0], [second, later] = [0, 0]] = this.#pieces;
    this.#pieces.delete(first);
    this.#pieces.set(second, later + earlier);
  }
}

/** What goes with a write is taken to be as large as the current version: as large as it usually is, and known. */
function bytesOf({ body, purgeEarlier, before }: MeasuredWrite, maxVersions: number): number {
  const replaces = before !== null && (purgeEarlier || before.version >= maxVersions);
  return replaces ? body.length - before.bytes : body.length + VERSION_BYTES;
}

/**
 * Whether a write deletes: the mark of a deletion or of a move, no larger than such marks are, over a version that is not one
 * itself, or with all earlier ones. So much is possible without room, and cannot be used to fill the disk.
 */
function isDeletion({ body, head, purgeEarlier, before }: MeasuredWrite): boolean {
  if (head.state === RecordState.value || body.length > MIN_RECORD_BYTES || before === null) return false;
  return purgeEarlier || before.isValue;
}
