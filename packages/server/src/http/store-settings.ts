/**
 * The settings of stores, asked for once by all writes of one turn of the event loop. They are never remembered: a write by
 * settings of a moment ago could drop versions that are to be kept by now.
 */

import { setImmediate } from "node:timers/promises";

import type { Store } from "@tacenda/protocol";

import type { Directory } from "../storage/directory.js";

export class StoreSettings {
  readonly #directory: Pick<Directory, "getStore">;
  /** What will be asked for at the end of this turn. */
  readonly #waiting = new Map<string, Promise<Store | null>>();

  constructor(directory: Pick<Directory, "getStore">) {
    this.#directory = directory;
  }

  /** As they are now; null when there is no such store. @throws {StorageError} */
  get(project: string, store: string): Promise<Store | null> {
    const name = `${project}/${store}`;
    let asked = this.#waiting.get(name);
    if (asked === undefined) {
      asked = this.#ask(name, project, store);
      this.#waiting.set(name, asked);
    }
    return asked;
  }

  async #ask(name: string, project: string, store: string): Promise<Store | null> {
    await setImmediate();
    // Who comes from now on might need what was changed after this question.
    this.#waiting.delete(name);
    return await this.#directory.getStore(project, store);
  }
}
