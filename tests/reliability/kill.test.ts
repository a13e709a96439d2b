/**
 * kill -9 of the server at random moments under eight writers, over and over on one data directory: what was acknowledged
 * is there after the next start, byte for byte, and opens. TACENDA_KILL_ROUNDS sets the rounds.
 */

import { randomInt } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, TacendaError, generateSecret, type Store } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { describe, expect, test } from "vitest";

import { seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder, spawnServer } from "../server-process.ts";
import { Ledger } from "./ledger.ts";
import { ACKNOWLEDGE_BEFORE_COMMIT } from "./seeded-bugs.ts";

const ROUNDS = Number(process.env.TACENDA_KILL_ROUNDS ?? 3);
const ROOT_TOKEN = "root-token-of-the-kill-test-0123456789abcdef";
const STORE = "ledger";
const WRITERS = 8;
const LONGEST_VALUE = 30_000;
/** Milliseconds between the writers' start and the kill. */
const EARLIEST_KILL = 20;
const LATEST_KILL = 600;

/** What a store's reader must find under one key: the last acknowledged value, or one that was on its way since. */
interface Expectation {
  acknowledged: string | null;
  maybe: Set<string>;
}

interface Outcome {
  acknowledged: number;
  faults: string[];
}

/** Writes until the server is gone: mostly new keys, and every third time the one before again. Gives what went wrong. */
async function writeUntilKilled(store: Store, name: string, expected: Map<string, Expectation>): Promise<string[]> {
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

async function checkValues(store: Store, expected: ReadonlyMap<string, Expectation>): Promise<string[]> {
  const faults: string[] = [];
  for (const [key, { acknowledged, maybe }] of expected) {
    const value = await store.getValue(key);
    if (value !== acknowledged && !(value !== null && maybe.has(value))) faults.push(`${key} reads otherwise`);
  }
  return faults;
}

/** Rounds of writing and killing, each checked after the next start, and everything once more at the end. */
async function killAndCheck(bin: string, rounds: number): Promise<Outcome> {
  const dataDir = join(await freshFolder(), "data");
  const secret = generateSecret();
  const everything = new Ledger();
  const faults: string[] = [];
  const start = () => spawnServer({ bin, dataDir, rootToken: ROOT_TOKEN });
  let server = await start();
  await new TacendaAdmin({ url: server.url, token: ROOT_TOKEN }).stores.create(STORE);
  const open = (fetch: typeof globalThis.fetch) =>
    new Tacenda({ url: server.url, token: ROOT_TOKEN, fetch, maxAttempts: 1 }).getStore(STORE, {
      secret,
      stretch: "store",
    });
  for (let round = 0; round < rounds; round++) {
    const expected = new Map<string, Expectation>();
    const writing = open(everything.fetch);
    const writers = Array.from({ length: WRITERS }, (_, writer) =>
      writeUntilKilled(writing, `round-${round}-writer-${writer}`, expected),
    );
    await sleep(randomInt(EARLIEST_KILL, LATEST_KILL));
    await server.end("SIGKILL");
    faults.push(...(await Promise.all(writers)).flat());
    server = await start();
    faults.push(...(await checkValues(open(globalThis.fetch), expected)));
  }
  faults.push(...(await everything.audit(server.url, ROOT_TOKEN)));
  await server.end("SIGTERM");
  return { acknowledged: everything.acknowledged, faults };
}

describe(`${ROUNDS} times kill -9 under ${WRITERS} writers`, () => {
  test("nothing acknowledged is lost, and nothing is torn", { timeout: 30_000 + ROUNDS * 5_000 }, async () => {
    const { acknowledged, faults } = await killAndCheck(SERVER_BIN, ROUNDS);
    expect(faults).toEqual([]);
    expect(acknowledged).toBeGreaterThan(ROUNDS * WRITERS);
  });

  test("this suite catches acknowledging before the commit", async () => {
    const bin = await seedServer(await freshFolder(), [ACKNOWLEDGE_BEFORE_COMMIT]);
    expect((await killAndCheck(bin, 3)).faults.join("\n")).toContain("was acknowledged and is lost");
  });
});
