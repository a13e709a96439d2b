/**
 * Reads of single records that are asked for in one turn of the event loop go to the database together. So a busy server asks once for what many
 * requests want, and goes through each layer's code once per turn instead of once per request, which is what its time goes to.
 */

import type { ReadRef, StoredRecord } from "./record-store.js";

/** Reads all refs in one committed state, and gives what it found in their order. */
type ReadAll = (refs: readonly ReadRef[]) => Promise<readonly (StoredRecord | null)[]>;

interface Waiting {
  refs: readonly ReadRef[];
  resolve: (found: (StoredRecord | null)[]) => void;
  reject: (error: unknown) => void;
}

export class ReadQueue {
  readonly #readAll: ReadAll;
  /** Most refs that go together. */
  readonly #limit: number;
  /** Of one ref each. */
  #single: Waiting[] = [];
  /** Of several. Their bodies may be many bytes, so each has a turn to itself, and others have theirs in between. */
  #several: Waiting[] = [];
  #isWoken = false;

  constructor(readAll: ReadAll, limit: number) {
    this.#readAll = readAll;
    this.#limit = limit;
  }

  /** Reads at most `limit` refs in one committed state. @throws what `readAll` throws, to all that went together. */
  read(refs: readonly ReadRef[]): Promise<(StoredRecord | null)[]> {
    return new Promise((resolve, reject) => {
      (refs.length === 1 ? this.#single : this.#several).push({ refs, resolve, reject });
      this.#wakeUp();
    });
  }

  #wakeUp(): void {
    if (this.#isWoken) return;
    this.#isWoken = true;
    setImmediate(() => {
      this.#isWoken = false;
      this.#flush();
    });
  }

  #flush(): void {
    const single = this.#single;
    this.#single = [];
    for (let start = 0; start < single.length; start += this.#limit) {
      void this.#readGroup(single.slice(start, start + this.#limit));
    }
    const one = this.#several.shift();
    if (one !== undefined) void this.#readGroup([one]);
    if (this.#several.length > 0) this.#wakeUp();
  }

  /** Settles every read of the group. */
  async #readGroup(group: readonly Waiting[]): Promise<void> {
    try {
      const found = await this.#readAll(group.flatMap(({ refs }) => refs));
      let start = 0;
      for (const { refs, resolve } of group) resolve(found.slice(start, (start += refs.length)));
    } catch (error) {
      for (const { reject } of group) reject(error);
    }
  }
}
