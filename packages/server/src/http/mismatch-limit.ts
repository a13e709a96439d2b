/** Bounds how often a token may be wrong about a secret; spec/http.md § Secret check. */

import { LRUCache } from "lru-cache";

import { HttpError } from "./http-error.js";

const MAX_MISMATCHES = 10;
const WINDOW_MILLISECONDS = 60_000;
/** Tokens remembered; whoever has so many can guess with each of them. */
const MAX_TOKENS = 10_000;

/** In memory, per process. Who has used up the mismatches of the last minute is not told about any secret. */
export class MismatchLimit {
  readonly #now: () => number;
  /** Times of the last mismatches by token id, the oldest first, at most MAX_MISMATCHES. */
  readonly #times = new LRUCache<string, number[]>({ max: MAX_TOKENS });

  /** `now`: milliseconds of a clock that nobody sets back; the process's own by default. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** @throws {HttpError} `rate_limited` when the token may not compare now, whatever the outcome would be. */
  refuseSpent(token: string): void {
    const times = this.#times.get(token);
    const oldest = times?.[0];
    if (times === undefined || oldest === undefined || times.length < MAX_MISMATCHES) return;
    const wait = oldest + WINDOW_MILLISECONDS - this.#now();
    if (wait <= 0) return;
    throw new HttpError("rate_limited", { retryAfter: Math.ceil(wait / 1_000) });
  }

  /** Notes that the token was wrong. */
  note(token: string): void {
    const times = this.#times.get(token) ?? [];
    this.#times.set(token, [...times, this.#now()].slice(-MAX_MISMATCHES));
  }
}
