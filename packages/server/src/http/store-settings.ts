/** The settings of stores, remembered for a moment, so that not every write has to ask the database for them. */

import type { Store } from "@tacenda/protocol";
import { LRUCache } from "lru-cache";

import type { Directory } from "../storage/directory.js";

/** How long what the database says is believed without asking again, in milliseconds. */
const CACHE_MILLISECONDS = 1_000;
const CACHED_STORES = 10_000;

/**
 * A change made through this process is seen by writes that begin later, one made through another process within a second. A
 * store that was destroyed meanwhile takes no write all the same: its keys are gone, and each commit asks for them.
 */
export class StoreSettingsCache {
  readonly #directory: Pick<Directory, "getStore">;
  /** Answers, and questions under way: who asked before a change does not put its answer back after it. */
  readonly #known = new LRUCache<string, Promise<Store | null>>({ max: CACHED_STORES, ttl: CACHE_MILLISECONDS });

  constructor(directory: Pick<Directory, "getStore">) {
    this.#directory = directory;
  }

  /** Null when there is no such store. @throws {StorageError} */
  get(project: string, store: string): Promise<Store | null> {
    const name = `${project}/${store}`;
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    const asked = this.#directory.getStore(project, store);
    this.#known.set(name, asked);
    const forget = () => {
      if (this.#known.peek(name) === asked) this.#known.delete(name);
    };
    // One that is made in a moment is there at once, and a failure is of its time.
    asked.then((found) => found ?? forget(), forget);
    return asked;
  }

  /** Asks again for a store that was changed or destroyed. */
  forget(project: string, store: string): void {
    this.#known.delete(`${project}/${store}`);
  }

  /** Asks again for every store: call it after a project was destroyed. */
  forgetAll(): void {
    this.#known.clear();
  }
}
