/** Bounds how many requests a token may make; spec/http.md § Rate limits. */

import { LRUCache } from "lru-cache";

import type { Principal } from "../auth/principal.js";
import { HttpError } from "./http-error.js";

/** Sums of fractions are not exact, and no request waits for so little: in milliseconds. */
const INEXACT = 0.01;
/** Tokens remembered. One that is forgotten has its whole burst again. */
const MAX_TOKENS = 10_000;

export interface Rate {
  /** Requests per second of one token, in the long run. */
  perSecond: number;
  /** Requests that a token may make at once, after it has made none for a while. */
  burst: number;
}

/**
 * In memory, per process: the generic cell rate algorithm, which is a bucket of `burst` that fills at `perSecond` and needs one
 * number per token.
 */
export class RateLimit {
  /** Milliseconds in which one more request is earned. */
  readonly #interval: number;
  /** Milliseconds that the requests made may be ahead of those earned, before one is made. */
  readonly #lead: number;
  readonly #now: () => number;
  /** By token, the time at which all that it has made will be earned. */
  readonly #earned = new LRUCache<string, number>({ max: MAX_TOKENS });

  /** `now`: milliseconds of a clock that nobody sets back; the process's own by default. */
  constructor({ perSecond, burst }: Rate, now: () => number = () => performance.now()) {
    this.#interval = 1_000 / perSecond;
    this.#lead = (burst - 1) * this.#interval;
    this.#now = now;
  }

  /** Counts a request. Root is not limited. @throws {HttpError} `rate_limited`, and the request does not count. */
  take({ type, id }: Principal): void {
    if (type === "root") return;
    const now = this.#now();
    const wait = this.#earnedAt(id, now) - now - this.#lead;
    if (wait > INEXACT) throw new HttpError("rate_limited", { retryAfter: Math.ceil(wait / 1_000) });
    this.#spend(id, 1);
  }

  /** Counts what a request turned out to be beside one: it is not refused for it, but the next ones wait. */
  takeMore({ type, id }: Principal, count: number): void {
    if (type !== "root") this.#spend(id, count);
  }

  #spend(token: string, count: number): void {
    this.#earned.set(token, this.#earnedAt(token, this.#now()) + count * this.#interval);
  }

  #earnedAt(token: string, now: number): number {
    return Math.max(this.#earned.get(token) ?? now, now);
  }
}
