/** Writers until there is no room, over and over: what they are told, what can still be read, and what is there afterwards. */

import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, TacendaError, generateSecret, type Store, type TacendaErrorCode } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";

import { spawnServer, type ServerProcess } from "../server-process.ts";
import type { Place } from "./databases.ts";
import type { SmallDisk } from "./small-disk.ts";
import { checkValues, type Expectation } from "./writers.ts";

const ROOT_TOKEN = "root-token-of-the-full-disk-0123456789abcdef";
const STORE = "kept";
const WRITERS = 6;
const KEYS_EACH = 8;
const LONGEST_VALUE = 60_000;
/** Bytes that are free when the writers start. */
const ROOM = 2 * 1_048_576;
/** After so many refusals one after the other a writer believes it. */
const REFUSALS = 4;
/** What is acknowledged to a writer for which there cannot be room. */
const TOO_MANY_WRITES = 100;
/** Milliseconds from new room to the first write that succeeds. */
const RECOVERY_LIMIT = 30_000;

/** What is full, and what must be seen then. */
export interface Scarcity {
  disk: SmallDisk;
  place: Pick<Place, "dataDir" | "env">;
  /** Whether the database runs on: then reads succeed, and every refusal is `storage_full`. */
  readsGoOn: boolean;
  /** How the server is ended while the disk is full, to be started again. */
  restarts: readonly ("SIGKILL" | "SIGTERM")[];
}

export interface FullOutcome {
  acknowledged: number;
  /** How often a write was refused, by the error's code. */
  refused: Partial<Record<TacendaErrorCode, number>>;
  losses: string[];
  faults: string[];
}

/** After these nothing was written. The others leave it open. */
const NOTHING_WRITTEN: readonly TacendaErrorCode[] = ["storage_full", "overloaded"];
/** What a caller may be told while the database itself is gone. */
const AWAY: readonly TacendaErrorCode[] = ["storage_full", "overloaded", "server_fault", "outcome_unknown"];

export async function fillAndRecover(bin: string, scarcity: Scarcity, rounds: number): Promise<FullOutcome> {
  const trial = new FullTrial(bin, scarcity);
  await trial.start();
  for (let round = 0; round < rounds; round++) await trial.run(round);
  await trial.stop();
  return trial.outcome;
}

class FullTrial {
  readonly outcome: FullOutcome = { acknowledged: 0, refused: {}, losses: [], faults: [] };
  readonly #bin: string;
  readonly #scarcity: Scarcity;
  readonly #secret = generateSecret();
  /** What each key holds. A key has one writer. */
  readonly #expected = new Map<string, Expectation>();
  #server: ServerProcess | undefined;

  constructor(bin: string, scarcity: Scarcity) {
    this.#bin = bin;
    this.#scarcity = scarcity;
  }

  async start(): Promise<void> {
    await this.#spawn();
    await this.#admin().stores.create(STORE);
    const store = this.#open();
    for (const key of KEYS) await this.#write(store, key, `${key}:first`);
  }

  async stop(): Promise<void> {
    await this.#server?.end("SIGTERM");
  }

  async run(round: number): Promise<void> {
    const { disk, restarts } = this.#scarcity;
    await disk.fill(ROOM);
    const store = this.#open();
    await Promise.all(Array.from({ length: WRITERS }, (_, writer) => this.#writeUntilRefused(store, writer, round)));
    await this.#whileFull(round);
    for (const signal of restarts) {
      await this.#server?.end(signal);
      await this.#spawn();
      await this.#whileFull(round);
    }
    disk.free();
    await this.#recover(round);
  }

  async #spawn(): Promise<void> {
    this.#server = await spawnServer({ bin: this.#bin, ...this.#scarcity.place, rootToken: ROOT_TOKEN });
  }

  get #url(): string {
    return this.#server?.url ?? "";
  }

  #admin(): TacendaAdmin {
    return new TacendaAdmin({ url: this.#url, token: ROOT_TOKEN, maxAttempts: 1 });
  }

  #open(maxAttempts = 1): Store {
    const tacenda = new Tacenda({ url: this.#url, token: ROOT_TOKEN, maxAttempts, timeout: 30_000 });
    return tacenda.getStore(STORE, { secret: this.#secret, stretch: "store" });
  }

  /** Whether it was acknowledged. */
  async #write(store: Store, key: string, value: string): Promise<boolean> {
    const expectation = this.#expected.get(key) ?? { acknowledged: null, maybe: new Set() };
    this.#expected.set(key, expectation);
    const isDone = await this.#attempt(
      `writing ${key}`,
      () => store.setValue(key, value),
      () => expectation.maybe.add(value),
    );
    if (!isDone) return false;
    this.outcome.acknowledged++;
    expectation.acknowledged = value;
    expectation.maybe.clear();
    return true;
  }

  /** Does what may be refused, and judges what is said then. `onDoubt`: nobody can say whether it happened. */
  async #attempt(what: string, call: () => Promise<unknown>, onDoubt: () => void = () => undefined): Promise<boolean> {
    const { refused, faults } = this.outcome;
    try {
      await call();
      return true;
    } catch (error) {
      const allowed = this.#scarcity.readsGoOn ? ["storage_full"] : AWAY;
      if (!TacendaError.is(error) || !allowed.includes(error.code)) {
        faults.push(`${what}: ${String(error)}`);
        onDoubt();
        return false;
      }
      refused[error.code] = (refused[error.code] ?? 0) + 1;
      if (!NOTHING_WRITTEN.includes(error.code)) onDoubt();
      return false;
    }
  }

  async #writeUntilRefused(store: Store, writer: number, round: number): Promise<void> {
    for (let count = 0, refusals = 0; refusals < REFUSALS; count++) {
      if (count === TOO_MANY_WRITES) {
        this.outcome.faults.push("more was acknowledged than there is room for");
        return;
      }
      const key = keyOf(writer, count % KEYS_EACH);
      const value = `${key}:${round}:${count}:`.padEnd(randomInt(20, LONGEST_VALUE), "=");
      refusals = (await this.#write(store, key, value)) ? 0 : refusals + 1;
    }
  }

  async #whileFull(round: number): Promise<void> {
    const { readsGoOn } = this.#scarcity;
    const { losses, faults } = this.outcome;
    const probe = async (path: string) => (await fetch(this.#url + path)).status;
    if ((await probe("/livez")) !== 200) faults.push("/livez is not 200 while the disk is full");
    if (!readsGoOn) {
      await this.#readOrBeTold();
      return;
    }
    if ((await probe("/readyz")) !== 200) faults.push("/readyz is not 200 while the disk is full");
    // Clients that know nothing yet, so that a value that is gone is not hidden behind an error about going back.
    losses.push(...(await checkValues(this.#open(), this.#expected)));
    const big = Object.fromEntries(
      Array.from({ length: 50 }, (_, index) => [`batch-${round}-${index}`, "=".repeat(LONGEST_VALUE)]),
    );
    const isDone = await this.#attempt("a batch", () => this.#open().setValues(big));
    if (isDone) faults.push("a batch of three megabytes found room on a full disk");
    const found = await this.#open().getValues(Object.keys(big));
    for (const value of found.values()) if (value !== null) faults.push("a part of a refused batch was written");
    await this.#attempt("creating a store", () => this.#admin().stores.create(`late-${round}-${randomInt(1e9)}`));
  }

  /** While the database is away or comes back, a read gives what is there, or an error that says so. */
  async #readOrBeTold(): Promise<void> {
    const store = this.#open();
    // All at once: each may take the seconds for which the server waits for its database.
    const reads = [...this.#expected].map(([key, { acknowledged, maybe }]) =>
      this.#attempt(`reading ${key}`, async () => {
        const value = await store.getValue(key);
        if (value !== acknowledged && !(value !== null && maybe.has(value))) {
          this.outcome.losses.push(`${key} reads otherwise`);
        }
      }),
    );
    await Promise.all(reads);
  }

  async #recover(round: number): Promise<void> {
    const begun = performance.now();
    while (!(await this.#write(this.#open(), keyOf(0, 0), `recovered:${round}`))) {
      if (performance.now() - begun > RECOVERY_LIMIT) {
        this.outcome.faults.push("there is room again, and still no write succeeds");
        return;
      }
      await sleep(100);
    }
    const store = this.#open(3);
    this.outcome.losses.push(...(await checkValues(store, this.#expected)));
    for (const key of KEYS) {
      if (!(await this.#write(store, key, `${key}:again:${round}`)))
        this.outcome.faults.push(`${key} is still refused`);
    }
    this.outcome.losses.push(...(await checkValues(this.#open(3), this.#expected)));
  }
}

function keyOf(writer: number, index: number): string {
  return `writer-${writer}-${index}`;
}

const KEYS = Array.from({ length: WRITERS * KEYS_EACH }, (_, index) =>
  keyOf(Math.floor(index / KEYS_EACH), index % KEYS_EACH),
);
