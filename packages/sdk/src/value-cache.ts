/** Opened records kept for a while, opt-in: reads without a request, and, for a bound time, without a server. */

import { type Duration, milliseconds } from "./duration.js";
import type { OpenedRecord } from "./crypto/record.js";
import type { ServerClaims } from "./http/record-api.js";
import { checkInteger } from "./checks.js";

export interface CacheOptions {
  /** How long a value is returned without asking the server. Later it is asked whether there is a newer one. */
  ttl: Duration;
  /** How long after that the value is still returned when the server cannot be reached or is overloaded. Default: not at all. */
  staleIfError?: Duration | undefined;
  /** Bytes of values kept at most, 16 MiB by default; the least recently used go first. */
  maxBytes?: number | undefined;
}

/** A record that opened and holds a value. */
export interface LiveRecord {
  gone: false;
  record: OpenedRecord;
  claimed: ServerClaims;
}

interface Cached {
  record: LiveRecord;
  /** When the server last vouched for it; milliseconds of the process's own clock, which nobody sets. */
  at: number;
}

/** What an entry costs besides its value, roughly. */
const ENTRY_BYTES = 512;

/** The cache of one store, by key hash. Values in it are plaintext in memory, like everything a caller has read. */
export class ValueCache {
  readonly #ttl: number;
  readonly #staleIfError: number;
  readonly #maxBytes: number;
  readonly #entries = new Map<string, Cached>();
  #bytes = 0;
  #generation = 0;

  /** @throws {ConfigurationError} */
  constructor({ ttl, staleIfError, maxBytes = 16_777_216 }: CacheOptions) {
    this.#ttl = milliseconds(ttl);
    this.#staleIfError = staleIfError === undefined ? 0 : milliseconds(staleIfError);
    this.#maxBytes = checkInteger("cache.maxBytes", maxBytes, 0, Number.MAX_SAFE_INTEGER);
  }

  /** Changes with every deletion: what was read before one must not be cached after it. */
  get generation(): number {
    return this.#generation;
  }

  /** A record that need not be asked for. */
  fresh(keyHash: string): LiveRecord | undefined {
    return this.#younger(keyHash, this.#ttl);
  }

  /** A record to fall back on when the server cannot be asked. */
  fallback(keyHash: string): LiveRecord | undefined {
    return this.#staleIfError === 0 ? undefined : this.#younger(keyHash, this.#ttl + this.#staleIfError);
  }

  /** A record of any age, to ask the server whether it is still current. */
  stale(keyHash: string): LiveRecord | undefined {
    return this.#younger(keyHash, Infinity);
  }

  /** Keeps a record that the server has just shown or vouched for. */
  set(keyHash: string, record: LiveRecord): void {
    this.#drop(keyHash);
    const bytes = sizeOf(record);
    if (bytes > this.#maxBytes) return;
    this.#entries.set(keyHash, { record, at: performance.now() });
    this.#bytes += bytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#maxBytes) return;
      this.#drop(oldest);
    }
  }

  delete(keyHash: string): void {
    this.#generation++;
    this.#drop(keyHash);
  }

  #drop(keyHash: string): void {
    const cached = this.#entries.get(keyHash);
    if (cached === undefined) return;
    this.#entries.delete(keyHash);
    this.#bytes -= sizeOf(cached.record);
  }

  clear(): void {
    this.#generation++;
    this.#entries.clear();
    this.#bytes = 0;
  }

  #younger(keyHash: string, age: number): LiveRecord | undefined {
    const cached = this.#entries.get(keyHash);
    if (cached === undefined || performance.now() - cached.at >= age) return undefined;
    // Now the most recently used.
    this.#entries.delete(keyHash);
    this.#entries.set(keyHash, cached);
    return cached.record;
  }
}

function sizeOf({ record }: LiveRecord): number {
  const { value, metadata } = record.payload;
  return ENTRY_BYTES + value.length + metadata.length;
}
