/** What a client remembers of each key, to notice a server that goes back; spec/record.md § Marks. */

import { equalBytes } from "./crypto/bytes.js";
import { LruMap } from "./lru-map.js";

/** The highest version of a key that this client has seen acknowledged or opened. */
export interface Mark {
  version: number;
  /** 32 bytes: two records of one version can both be valid, so the number alone is not enough. */
  commitment: Uint8Array;
}

const MAX_MARKS = 100_000;

/** Marks in memory, by key hash, bounded; the least recently used go first. */
export class Marks {
  readonly #marks = new LruMap<string, Mark>(MAX_MARKS);

  get(keyHash: string): Mark | undefined {
    return this.#marks.get(keyHash);
  }

  /**
   * Raises the mark; never lowers it, and never changes the commitment of a version once seen. False when that version was
   * seen with another commitment, even if only since the request was sent: no honest server shows both.
   */
  raise(keyHash: string, { version, commitment }: Mark): boolean {
    const mark = this.#marks.get(keyHash);
    if (mark === undefined || version > mark.version) this.#marks.set(keyHash, { version, commitment });
    return mark?.version !== version || equalBytes(mark.commitment, commitment);
  }

  forget(keyHash: string): void {
    this.#marks.delete(keyHash);
  }
}

/** Whether a verified version is older than the mark, or another record of the same version. */
export function isRollback(mark: Mark | undefined, seen: Mark): boolean {
  if (mark === undefined) return false;
  if (seen.version === mark.version) return !equalBytes(seen.commitment, mark.commitment);
  return seen.version < mark.version;
}
