/** Writers that go on until their server is killed, and what must be found of their writes afterwards. */

import { randomInt } from "node:crypto";

import { TacendaError, type Store } from "@tacenda/sdk";

const LONGEST_VALUE = 30_000;
const MOST_FAULTS = 5;

/** What a store's reader must find under one key: the last acknowledged value, or one that was on its way since. */
export interface Expectation {
  acknowledged: string | null;
  maybe: Set<string>;
}

/** Writes until the server is gone: mostly new keys, and every third time the one before again. Gives what went wrong. */
export async function writeUntilKilled(
  store: Store,
  name: string,
  expected: Map<string, Expectation>,
): Promise<string[]> {
  const faults: string[] = [];
  for (let count = 0; ; count++) {
    const key = `${name}-${count - Number(count % 3 === 2)}`;
    const value = `${key}:${count}:`.padEnd(randomInt(20, LONGEST_VALUE), "=");
    const expectation = expected.get(key) ?? { acknowledged: null, maybe: new Set() };
    expected.set(key, expectation);
    expectation.maybe.add(value);
    try {
      await store.setValue(key, value);
    } catch (error) {
      if (TacendaError.is(error, "server_unreachable")) return faults;
      faults.push(`writing ${key}: ${String(error)}`);
      // The server went back behind what it had acknowledged: worth seeing what else it lost.
      if (TacendaError.is(error, "rollback")) continue;
      return faults;
    }
    expectation.acknowledged = value;
    expectation.maybe.clear();
  }
}

export async function checkValues(store: Store, expected: ReadonlyMap<string, Expectation>): Promise<string[]> {
  const faults: string[] = [];
  for (const [key, { acknowledged, maybe }] of expected) {
    // Enough to know, and each may take its time to fail.
    if (faults.length === MOST_FAULTS) break;
    try {
      const value = await store.getValue(key);
      if (value !== acknowledged && !(value !== null && maybe.has(value))) faults.push(`${key} reads otherwise`);
    } catch (error) {
      faults.push(`reading ${key}: ${String(error)}`);
    }
  }
  return faults;
}

/** How a call may end while the database is away or connections break; everything else would be wrong. */
const FAILURES: readonly string[] = [
  "server_unreachable",
  "request_timeout",
  "server_fault",
  "outcome_unknown",
  "overloaded",
];
const KEYS_EACH = 5;

/** Overwrites a few keys of its own until told to stop, whatever becomes of single writes. Gives what went wrong. */
export async function writeThroughFailures(
  store: Store,
  name: string,
  expected: Map<string, Expectation>,
  stop: AbortSignal,
): Promise<string[]> {
  const faults: string[] = [];
  for (let count = 0; !stop.aborted; count++) {
    const key = `${name}-${count % KEYS_EACH}`;
    const value = `${key}:${count}:`.padEnd(randomInt(20, 2_000), "=");
    const expectation = expected.get(key) ?? { acknowledged: null, maybe: new Set() };
    expected.set(key, expectation);
    expectation.maybe.add(value);
    try {
      await store.setValue(key, value);
      expectation.acknowledged = value;
      expectation.maybe.clear();
    } catch (error) {
      if (!TacendaError.is(error) || !FAILURES.includes(error.code)) faults.push(`writing ${key}: ${String(error)}`);
      // It says that nothing was written.
      if (TacendaError.is(error, "overloaded")) expectation.maybe.delete(value);
    }
  }
  return faults;
}
