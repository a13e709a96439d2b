/** Which root token holds now, without asking for it at every request; spec/http.md § Root token. */

import { timingSafeEqual } from "node:crypto";

/** How long what the database said is believed without asking again, in milliseconds. */
const KEPT_MILLISECONDS = 1_000;

/** Equals no digest. */
const NONE = new Uint8Array(32);

/**
 * The SHA-256 of the root token: one for good, or that of a database, in which it may be replaced at any time. The database is
 * asked at most once a second, and only when the root token is used or a token is known to nobody: other tokens cost nothing.
 */
export class RootDigest {
  readonly #load: (() => Promise<Uint8Array | null>) | null;
  readonly #onChange: () => void;
  readonly #now: () => number;
  #known: Uint8Array = NONE;
  #askedAt = -Infinity;
  #loading: Promise<void> | null = null;

  /**
   * `source`: 32 bytes, or what looks them up, null when there are none. `onChange`: told when other ones were found. `now`:
   * milliseconds of a clock that nobody sets back; the process's own by default.
   */
  constructor(
    source: Uint8Array | (() => Promise<Uint8Array | null>),
    onChange: () => void = () => undefined,
    now: () => number = () => performance.now(),
  ) {
    this.#load = typeof source === "function" ? source : null;
    if (typeof source !== "function") this.#known = source;
    this.#onChange = onChange;
    this.#now = now;
  }

  /** Whether `digest` was the root token's when that was last asked. In constant time. */
  mayBe(digest: Uint8Array): boolean {
    return timingSafeEqual(digest, this.#known);
  }

  /** Whether `digest` is the root token's, as of a second ago or later. @throws {StorageError} when the database fails. */
  async is(digest: Uint8Array): Promise<boolean> {
    if (this.#load !== null && this.#now() - this.#askedAt >= KEPT_MILLISECONDS) {
      await (this.#loading ??= this.#ask(this.#load).finally(() => (this.#loading = null)));
    }
    return this.mayBe(digest);
  }

  async #ask(load: () => Promise<Uint8Array | null>): Promise<void> {
    // What comes back may be as old as the question.
    const askedAt = this.#now();
    const found = (await load()) ?? NONE;
    const changed = this.#known !== NONE && Buffer.compare(found, this.#known) !== 0;
    this.#known = found;
    this.#askedAt = askedAt;
    if (changed) this.#onChange();
  }
}
