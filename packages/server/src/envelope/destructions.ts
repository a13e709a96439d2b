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
  #asking: { answer: Promise<string | null>; askedAt: number } | null = null;

  /** `ask`: Directory.destructions. `now`: milliseconds of a clock that nobody sets back. */
  constructor(ask: () => Promise<string | null>, now: () => number = () => performance.now()) {
    this.#ask = ask;
    this.#now = now;
  }

  /** What it was three seconds ago at most; at once, unless it was last asked longer ago. @throws {StorageError} */
  latest(): string | null | Promise<string | null> {
    const now = this.#now();
    if (now - this.#askedAt < REFRESH_MILLISECONDS) return this.#latest;
    const asking = this.#asking;
    // What was asked longer ago may come back as it was then.
    const { answer } = asking !== null && now - asking.askedAt < MAX_MILLISECONDS ? asking : this.#begin(now);
    return now - this.#askedAt < MAX_MILLISECONDS ? this.#latest : answer;
  }

  #begin(askedAt: number): { answer: Promise<string | null>; askedAt: number } {
    const asking = { answer: this.#look(askedAt), askedAt };
    const done = () => {
      if (this.#asking === asking) this.#asking = null;
    };
    // Perhaps nobody waits for it. If it fails, somebody asks again.
    asking.answer.then(done, done);
    return (this.#asking = asking);
  }

  async #look(askedAt: number): Promise<string | null> {
    const found = await this.#ask();
    if (askedAt < this.#askedAt) return this.#latest;
    this.#askedAt = askedAt;
    return (this.#latest = found);
  }
}
