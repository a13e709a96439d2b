/** Clients of several servers on one database, which write and read without a pause while it fails over, and note what they meet. */

import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, TacendaError, type Store } from "@tacenda/sdk";

import type { Ledger } from "../ledger.ts";

const WRITERS = 4;
const READERS = 2;
const LONGEST_VALUE = 4_000;
/** Milliseconds between two calls of one client, so that a round of seconds is no hour of auditing. */
const PAUSE = 20;
/** Milliseconds before a caller tries again what may be tried again. */
const RETRY_PAUSE = 200;
const PROBE_PAUSE = 250;
/** So many overwrite one key, fewer than the versions that are kept. */
const WRITES_PER_KEY = 5;

export interface Place {
  url: string;
  token: string;
  store: string;
  secret: string;
}

interface Key {
  /** Number of the last acknowledged write of it, and of the last that was begun. */
  acknowledged: number;
  begun: number;
}

export class FailoverLoad {
  /** When each write was acknowledged, by server; milliseconds of this process's clock. */
  readonly acknowledged: number[][];
  /** Calls that failed with an error of the SDK that says that a retry makes sense, by its code; of them, writes that may have happened. */
  readonly retryable = new Map<string, number>();
  maybe = 0;
  /** Everything that must not be: other errors, and values that are older than they may be, or nobody's. */
  readonly faults: string[] = [];
  /** Longest exchange, and longest look at readiness, in milliseconds: of one request, not of a call with its repetitions. */
  slowest = { exchange: 0, readiness: 0 };
  /** Answers of `readyz`, by server. */
  readonly readiness: { at: number; status: number }[][];
  readonly #places: readonly Place[];
  readonly #ledger: Ledger;
  readonly #stop = new AbortController();
  readonly #keys = new Map<string, Key>();
  readonly #clients: Promise<void>[];

  constructor(places: readonly Place[], ledger: Ledger) {
    this.#places = places;
    this.#ledger = ledger;
    this.acknowledged = places.map(() => []);
    this.readiness = places.map(() => []);
    this.#clients = places.flatMap((place, server) => [
      ...Array.from({ length: WRITERS }, (_, writer) => this.#keepWriting(place, server, writer)),
      ...Array.from({ length: READERS }, () => this.#keepReading(place, server)),
      this.#keepAsking(place, server),
    ]);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#clients);
  }

  /** Every other client leaves it to the server how long an answer takes. */
  #open({ url, token, store, secret }: Place, index: number): Store {
    const fetch: typeof globalThis.fetch = async (input, init) => {
      const begun = performance.now();
      try {
        return await this.#ledger.fetch(input, init);
      } finally {
        this.slowest.exchange = Math.max(this.slowest.exchange, performance.now() - begun);
      }
    };
    const client = new Tacenda({ url, token, fetch, ...(index % 2 === 1 && { timeout: 120_000 }) });
    return client.getStore(store, { secret, stretch: "store" });
  }

  async #keepWriting(place: Place, server: number, writer: number): Promise<void> {
    const store = this.#open(place, writer);
    for (let count = 1; !this.#stop.signal.aborted; count++) {
      const name = `${server}-${writer}-${Math.floor(count / WRITES_PER_KEY)}`;
      const key = this.#keys.get(name) ?? { acknowledged: 0, begun: 0 };
      this.#keys.set(name, key);
      key.begun = count;
      const value = `${name}:${count}:`.padEnd(randomInt(20, LONGEST_VALUE), "=");
      const isDone = await this.#noting(`writing to server ${server}`, () => store.setValue(name, value));
      if (isDone === null) continue;
      key.acknowledged = count;
      this.acknowledged[server]?.push(performance.now());
      await sleep(PAUSE);
    }
  }

  /** Of keys that clients of all servers write. */
  async #keepReading(place: Place, server: number): Promise<void> {
    const store = this.#open(place, server);
    while (!this.#stop.signal.aborted) {
      const recent = [...this.#keys].slice(-this.#places.length * WRITERS * 4);
      const [name, key] = recent[randomInt(Math.max(1, recent.length))] ?? [];
      await sleep(PAUSE);
      if (name === undefined || key === undefined) continue;
      const least = key.acknowledged;
      const answer = await this.#noting(`reading from server ${server}`, async () => ({
        value: await store.getValue(name),
      }));
      if (answer === null) continue;
      const [of, count] = answer.value === null ? [name, 0] : answer.value.split(":");
      if (of !== name || Number(count) < least || Number(count) > key.begun) {
        this.faults.push(
          `server ${server} reads write ${count} of ${name}; ${least} was acknowledged, ${key.begun} begun`,
        );
      }
    }
  }

  async #keepAsking({ url }: Place, server: number): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const begun = performance.now();
      const answer = await fetch(`${url}/readyz`).catch(() => null);
      const at = performance.now();
      if (answer === null) this.faults.push(`server ${server} cannot be reached`);
      else this.readiness[server]?.push({ at, status: answer.status });
      this.slowest.readiness = Math.max(this.slowest.readiness, at - begun);
      await sleep(PROBE_PAUSE);
    }
  }

  /** What `call` gives, or null after an error that says that a retry makes sense. */
  async #noting<T>(what: string, call: () => Promise<T>): Promise<T | null> {
    try {
      return await call();
    } catch (error) {
      if (TacendaError.is(error) && error.retryable) {
        this.retryable.set(error.code, (this.retryable.get(error.code) ?? 0) + 1);
        if (what.startsWith("writing") && mayHaveHappened(error)) this.maybe++;
      } else {
        this.faults.push(`${what}: ${String(error)}`);
      }
      await sleep(RETRY_PAUSE);
      return null;
    }
  }
}

function mayHaveHappened(error: TacendaError): boolean {
  return TacendaError.is(error, "outcome_unknown") || ("mayHaveHappened" in error && error.mayHaveHappened === true);
}

/** The longest time in milliseconds without an event, from `begin` to `end`. */
export function longestPause(times: readonly number[], begin: number, end: number): number {
  const within = [begin, ...times.filter((time) => time > begin && time < end), end];
  return Math.max(...within.slice(1).map((time, index) => time - (within[index] ?? time)));
}
