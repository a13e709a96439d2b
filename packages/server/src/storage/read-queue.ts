/**
 * Reads that are asked for in one turn of the event loop go to the database together. So a busy server asks once for what many
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
  #waiting: Waiting[] = [];

  constructor(readAll: ReadAll, limit: number) {
    this.#readAll = readAll;
    this.#limit = limit;
  }

  /** Reads at most `limit` refs in one committed state. @throws what `readAll` throws, to all that went together. */
  read(refs: readonly ReadRef[]): Promise<(StoredRecord | null)[]> {
    return new Promise((resolve, reject) => {
      if (this.#waiting.push({ refs, resolve, reject }) === 1) setImmediate(() => this.#flush());
    });
  }

  #flush(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    let group: Waiting[] = [];
    let size = 0;
    for (const one of waiting) {
      if (size + one.refs.length > this.#limit) {
        void this.#readGroup(group);
        group = [];
        size = 0;
      }
      group.push(one);
      size += one.refs.length;
    }
    void this.#readGroup(group);
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
