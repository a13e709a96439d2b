/**
 * Whether a store was destroyed through another server. Unwrapped keys are used for minutes, and a read asks the database for
 * nothing but its record; so one small question, about all stores, goes beside the reads once a second.
 */

/** From this age on an answer is sought anew while the old one still counts, in milliseconds. */
const REFRESH_MILLISECONDS = 1_000;
/** An older answer counts for nothing: whoever asks then waits. In milliseconds. */
const MAX_MILLISECONDS = 3_000;

export class Destructions {
  readonly #ask: () => Promise<string | null>;
  readonly #now: () => number;
  #latest: string | null = null;
  /** When the question was asked that `#latest` answers. */
  #askedAt = -Infinity;
  /** Under way, and shared by all who wait. */
  #asking: Promise<string | null> | null = null;

  /** `ask`: Directory.destructions. `now`: milliseconds of a clock that nobody sets back. */
  constructor(ask: () => Promise<string | null>, now: () => number = () => performance.now()) {
    this.#ask = ask;
    this.#now = now;
  }

  /** What it was three seconds ago at most; at once, unless it was last asked longer ago. @throws {StorageError} */
  latest(): string | null | Promise<string | null> {
    const age = this.#now() - this.#askedAt;
    if (age < REFRESH_MILLISECONDS) return this.#latest;
    this.#asking ??= this.#look().finally(() => (this.#asking = null));
    if (age >= MAX_MILLISECONDS) return this.#asking;
    // Nobody waits for it yet. If it fails, somebody asks again.
    this.#asking.catch(() => undefined);
    return this.#latest;
  }

  async #look(): Promise<string | null> {
    const askedAt = this.#now();
    this.#latest = await this.#ask();
    this.#askedAt = askedAt;
    return this.#latest;
  }
}
