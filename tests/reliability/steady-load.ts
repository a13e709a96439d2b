/** Clients that read and write their own keys without a pause, check every value they read, and forgive no failure. */

import { randomInt } from "node:crypto";

import type { Store } from "@tacenda/sdk";

import { misread, storeOf, STORE, type Row } from "./key-world.ts";

const KEYS_EACH = 20;
const LONGEST_VALUE = 3_000;
/** Statuses on which the SDK sends a request once more. */
const RETRIED: readonly number[] = [408, 429, 502, 503, 504];

export class SteadyLoad {
  /** Calls of the SDK that have succeeded. */
  reads = 0;
  writes = 0;
  /** Answers and lost connections that the SDK has to send a request again for. */
  retries = 0;
  /** Calls that failed, and values that were not the ones written. */
  readonly faults: string[] = [];
  readonly #url: string;
  readonly #secret: string;
  readonly #name: string;
  readonly #values = new Map<string, string>();
  readonly #stop = new AbortController();
  readonly #clients: Promise<void>[];

  /** `name`: where several loads are on one database, each has one, so that it knows what its own keys hold. */
  constructor(url: string, secret: string, clients: number, name = "client") {
    this.#url = url;
    this.#secret = secret;
    this.#name = name;
    this.#clients = Array.from({ length: clients }, (_, client) => this.#run(client));
  }

  get calls(): number {
    return this.reads + this.writes;
  }

  /** Everything that was acknowledged. */
  get rows(): Row[] {
    return [...this.#values].map(([key, value]): Row => [STORE, key, value]);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#clients);
    this.faults.push(...(await misread(this.#url, this.#secret, this.rows)));
  }

  readonly #fetch: typeof globalThis.fetch = async (input, init) => {
    try {
      const answer = await globalThis.fetch(input, init);
      if (RETRIED.includes(answer.status)) this.retries++;
      return answer;
    } catch (error) {
      this.retries++;
      throw error;
    }
  };

  async #run(client: number): Promise<void> {
    const store = storeOf(this.#url, this.#secret, STORE, { fetch: this.#fetch });
    for (let count = 0; !this.#stop.signal.aborted; count++) {
      const key = `${this.#name}-${client}-${randomInt(KEYS_EACH)}`;
      try {
        if (count % 3 === 0) await this.#write(store, key, `${key}:${count}:`);
        else await this.#read(store, key);
      } catch (error) {
        this.faults.push(`${count % 3 === 0 ? "writing" : "reading"} ${key}: ${String(error)}`);
      }
    }
  }

  async #write(store: Store, key: string, begin: string): Promise<void> {
    const value = begin.padEnd(randomInt(100, LONGEST_VALUE), "=");
    await store.setValue(key, value);
    this.#values.set(key, value);
    this.writes++;
  }

  async #read(store: Store, key: string): Promise<void> {
    const expected = this.#values.get(key) ?? null;
    if ((await store.getValue(key)) !== expected) this.faults.push(`${key} reads otherwise`);
    this.reads++;
  }
}
