/**
 * Random sequences of calls, by several clients on a few keys, before a server that lies now and then; after each call the
 * master property is checked; spec/record.md § Marks. As long as the server has not lied, it must also have been of use.
 */

import type { Store } from "@tacenda/sdk";
import fc from "fast-check";

import type { Mutator } from "./adversary.js";
import { type Arena, TIMEOUT } from "./arena.js";
import { Knowledge, Violation, judgeExchanges } from "./knowledge.js";
import { MUTATORS, MUTATOR_NAMES, SLOW, type MutatorName } from "./mutators.js";
import { within } from "./within.js";

/** Two keys of one store, and the first of them in another store. */
const SLOTS = [
  { key: 0, store: 0 },
  { key: 1, store: 0 },
  { key: 0, store: 1 },
] as const;

/** Milliseconds for a call that the server will let wait in vain. */
const SHORT_TIMEOUT = 60;
/** Milliseconds after which a call hangs, beyond its timeout. */
const HANGS = 3_000;

interface Lie {
  mutator: MutatorName;
  /** Which request of the call, from 0; or all of them. */
  at: 0 | 1 | "all";
  n: number;
}

export interface Step {
  client: number;
  slot: number;
  call: "set" | "create" | "value" | "entry" | "version" | "delete" | "destroy" | "restore" | "forget" | "overtake";
  /** Version asked for, or expected where it is less than 6. */
  version: number;
  expires: boolean;
  lie: Lie | null;
}

const weighted = <T>(...weights: [number, T][]) =>
  fc.oneof(...weights.map(([weight, value]) => ({ weight, arbitrary: fc.constant(value) })));

const lie = fc.record<Lie>({
  mutator: fc.oneof(
    { weight: 60, arbitrary: fc.constantFrom(...MUTATOR_NAMES.filter((name) => !SLOW.includes(name))) },
    { weight: 1, arbitrary: fc.constantFrom(...SLOW) },
  ),
  at: weighted<Lie["at"]>([5, 0], [2, 1], [2, "all"]),
  n: fc.nat(10_000),
});

const step = fc.record<Step>({
  client: weighted([3, 0], [2, 1], [2, 2]),
  slot: weighted([4, 0], [1, 1], [1, 2]),
  call: weighted<Step["call"]>(
    [6, "set"],
    [2, "create"],
    [6, "value"],
    [4, "entry"],
    [1, "version"],
    [1, "delete"],
    [1, "destroy"],
    [1, "restore"],
    [1, "forget"],
    [1, "overtake"],
  ),
  version: fc.nat(15),
  expires: weighted([3, false], [1, true]),
  lie: fc.option(lie, { freq: 2 }),
});

export const sequences = fc.array(step, { minLength: 3, maxLength: 14 });

/** What an honest server has of a key. */
interface Truth {
  version: number;
  value: string | null;
}

const NOTHING = (): Truth => ({ version: 0, value: null });

/** Runs one sequence on fresh keys. @throws {Violation} */
export async function runSequence(arena: Arena, steps: readonly Step[]): Promise<void> {
  const { adversary } = arena;
  adversary.forget();
  const names = [arena.freshKey(), arena.freshKey()];
  const keys = SLOTS.map(({ key, store }) => ({
    name: names[key] ?? "",
    store,
    knowledge: new Knowledge(),
    truth: NOTHING(),
  }));
  let honest = true;
  for (const [index, one] of steps.entries()) {
    const key = keys[one.slot];
    const store = arena.clients[one.client]?.stores[key?.store ?? 0];
    if (key === undefined || store === undefined) throw new Error("There is no such key or client.");
    honest &&= one.lie === null;
    for (const write of adversary.held.splice(0)) await adversary.pass(write);
    const call = new Call(arena, one, { ...key, store, honest, value: `value ${index} of ${key.name}` });
    await call.run();
  }
  adversary.forget();
}

interface Place {
  name: string;
  store: Store;
  knowledge: Knowledge;
  truth: Truth;
  /** Whether the server has told the truth so far. */
  honest: boolean;
  /** The value to write, which no other write has. */
  value: string;
}

/** One call of a client, and the judgement on it. */
class Call {
  readonly #arena: Arena;
  readonly #step: Step;
  readonly #place: Place;

  constructor(arena: Arena, one: Step, place: Place) {
    this.#arena = arena;
    this.#step = one;
    this.#place = place;
  }

  async run(): Promise<void> {
    const { adversary, sdk } = this.#arena;
    const { knowledge, honest } = this.#place;
    const slow = this.#step.lie !== null && SLOW.includes(this.#step.lie.mutator);
    const timeout = slow ? SHORT_TIMEOUT : TIMEOUT;
    const base = this.#expected();
    let fault: Violation | undefined;
    adversary.begin(this.#mutation(), (sent) => {
      try {
        knowledge.noteSealed(sent, this.#values(), base);
      } catch (error) {
        // The client would take it for a network failure.
        if (!(error instanceof Violation)) throw error;
        fault ??= error;
      }
    });
    const outcome = await within(timeout + HANGS, this.#outcome(timeout)).catch((error: unknown) => ({ error }));
    adversary.begin(undefined);
    if (fault !== undefined) throw fault;
    if (!("error" in outcome)) return;
    const { error } = outcome;
    if (error instanceof Violation) throw error;
    if (!sdk.TacendaError.is(error)) throw new Violation(`an untyped error: ${String(error)}`);
    const told = [...this.#arena.secrets, this.#place.name, this.#place.value].some((text) =>
      `${error.message} ${String(error.cause)}`.includes(text),
    );
    if (told) throw new Violation("an error told a secret, a key, a value or the token");
    knowledge.judgeError(this.#step.client, error);
    if (honest) this.#judgeHonestError(error.code);
  }

  async #outcome(timeout: number): Promise<object> {
    const { adversary } = this.#arena;
    const { call, client, version, expires } = this.#step;
    const { name, store, knowledge, truth, honest, value } = this.#place;
    const options = { timeout };
    const ifVersion = this.#expected();
    const expiry = expires ? ({ expiresIn: "1h" } as const) : {};
    const { exchanges } = adversary;
    const written = (result: { version: number } | null, now: string | null) => {
      judgeExchanges(exchanges, false);
      if (result === null) return;
      knowledge.judgeWritten(client, result.version, exchanges);
      if (honest && result.version !== truth.version + 1) throw new Violation("an honest write has a wrong version");
      Object.assign(truth, { version: result.version, value: now });
    };
    const judgeTruth = (read: string | null) => {
      // Nothing was asked: the client may say what it knew a moment ago.
      if (honest && exchanges.length > 0 && read !== truth.value) throw new Violation("an honest read is wrong");
    };
    switch (call) {
      case "set":
        written(await store.setValue(name, value, { ...options, ...expiry, ifVersion }), value);
        break;
      case "create":
        written(await store.createValue(name, value, { ...options, ...expiry }), value);
        break;
      case "restore": {
        const restored = await store.restoreVersion(name, version % 6 || 1, options);
        written(restored, [...knowledge.valuesAt(version % 6 || 1)][0] ?? null);
        break;
      }
      case "delete": {
        const deleted = await store.deleteValue(name, options);
        if (deleted === null) knowledge.judgeNoValue(client, exchanges);
        written(deleted, null);
        break;
      }
      case "destroy": {
        const destroyed = await store.destroyValue(name, options);
        if (destroyed === null) knowledge.judgeAbsence(client);
        written(destroyed, null);
        break;
      }
      case "value": {
        const read = await store.getValue(name, options);
        judgeExchanges(exchanges, true);
        if (read === null) knowledge.judgeNoValue(client, exchanges);
        else knowledge.judgeValue(client, read, exchanges);
        judgeTruth(read);
        break;
      }
      case "entry": {
        const entry = await store.getEntry(name, options);
        judgeExchanges(exchanges, true);
        knowledge.judgeEntry(client, entry, exchanges);
        judgeTruth(entry?.value === undefined ? null : (entry.value as string | null));
        break;
      }
      case "version": {
        const asked = version % 6 || 1;
        const read = await store.getValue(name, { ...options, version: asked });
        judgeExchanges(exchanges, true);
        if (read !== null) knowledge.judgeVersion(read, exchanges, asked);
        break;
      }
      case "forget":
        await store.forgetMark(name);
        knowledge.forget(client);
        break;
      case "overtake":
        await this.#overtake(options);
        break;
    }
    return {};
  }

  /** A read whose answer comes after a write that was begun later: no false alarm, and nothing older than was known before. */
  async #overtake(options: { timeout: number }): Promise<void> {
    const { adversary } = this.#arena;
    const { client } = this.#step;
    const { name, store, knowledge, truth, honest, value } = this.#place;
    const { mutate } = adversary;
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => (release = resolve));
    adversary.mutate = (count) => async (sent) => {
      const answer = await (mutate?.(count)?.(sent, adversary) ?? adversary.pass(sent));
      if (sent.method === "GET") await released;
      return answer;
    };
    const before = truth.value;
    const reading = store.getValue(name, options);
    const writing = store.setValue(name, value, options).finally(() => release());
    const [read, written] = await Promise.allSettled([reading, writing]);
    const gets = adversary.exchanges.filter(({ method }) => method === "GET");
    const judgements: (() => void)[] = [];
    if (read.status === "fulfilled") {
      const { value: got } = read;
      if (honest && ![before, value].includes(got)) throw new Violation("an honest read is wrong");
      judgements.push(() =>
        got === null ? knowledge.judgeNoValue(client, gets) : knowledge.judgeValue(client, got, gets),
      );
    }
    if (written.status === "fulfilled") {
      const { version } = written.value;
      judgements.push(() => knowledge.judgeWritten(client, version, adversary.exchanges));
      Object.assign(truth, { version, value });
    }
    knowledge.judgeOverlapping(client, judgements);
    const refused = [read, written].find(({ status }) => status === "rejected");
    if (refused?.status === "rejected") throw refused.reason;
  }

  /** The version that the caller names, if any. */
  #expected(): number | undefined {
    const { call, version } = this.#step;
    return call === "set" && version < 6 ? version : undefined;
  }

  /** What a record sealed in this call may hold. */
  #values(): ReadonlySet<string> {
    const { call, version } = this.#step;
    return call === "restore" ? this.#place.knowledge.valuesAt(version % 6 || 1) : new Set([this.#place.value]);
  }

  #mutation(): ((count: number) => Mutator | undefined) | undefined {
    const { lie: told } = this.#step;
    if (told === null) return undefined;
    const mutator = MUTATORS[told.mutator](told.n);
    return (count) => (told.at === "all" || told.at === count ? mutator : undefined);
  }

  #judgeHonestError(code: string): void {
    const { call } = this.#step;
    const { truth } = this.#place;
    const expected =
      (code === "conflict" && this.#expected() !== undefined && this.#expected() !== truth.version) ||
      (code === "already_exists" && call === "create" && truth.value !== null) ||
      (code === "version_not_found" && call === "restore");
    if (!expected) throw new Violation(`an honest server led to the error ${code}`);
  }
}
