/** What a client remembers of each key, to notice a server that goes back; spec/record.md § Marks. */

import { equalBytes } from "./crypto/bytes.js";
import { LruMap } from "./lru-map.js";

/** The highest version of a key that this client has seen acknowledged or opened. */
export interface Mark {
  version: number;
  /** 32 bytes: two records of one version can both be valid, so the number alone is not enough. */
  commitment: Uint8Array;
}

/**
 * Where marks are kept, by key hash. Several clients, and processes, may share one. Losing a mark loses protection against
 * rollback of that key and nothing else. What it throws reaches the caller of the store.
 */
export interface VersionMemory {
  /** The mark of a key hash (43 characters of base64url), if there is one. */
  get(keyHash: string): Mark | undefined | Promise<Mark | undefined>;
  /**
   * Raises the mark in one atomic step; never lowers it, and never changes the commitment of a version once seen. False when
   * that version was seen with another commitment, even if only since the request was sent: no honest server shows both.
   */
  raise(keyHash: string, mark: Mark): boolean | Promise<boolean>;
  /** Forgets the mark, for after an honest restore. */
  forget(keyHash: string): void | Promise<void>;
}

const MAX_MARKS = 100_000;

/** Marks in memory, bounded; the least recently used go first. */
export class Marks implements VersionMemory {
  readonly #marks = new LruMap<string, Mark>(MAX_MARKS);

  get(keyHash: string): Mark | undefined {
    return this.#marks.get(keyHash);
  }

  raise(keyHash: string, { version, commitment }: Mark): boolean {
    const mark = this.#marks.get(keyHash);
    if (mark === undefined || version > mark.version) this.#marks.set(keyHash, { version, commitment });
    return isSameOrOther(mark, { version, commitment });
  }

  forget(keyHash: string): void {
    this.#marks.delete(keyHash);
  }
}

/** Whether `seen` is of another version than the mark, or the very record of that version. */
export function isSameOrOther(mark: Mark | undefined, seen: Mark): boolean {
  return mark?.version !== seen.version || equalBytes(mark.commitment, seen.commitment);
}

/** Whether a verified version is older than the mark, or another record of the same version. */
export function isRollback(mark: Mark | undefined, seen: Mark): boolean {
  return mark !== undefined && (seen.version < mark.version || !isSameOrOther(mark, seen));
}
