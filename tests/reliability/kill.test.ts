/**
 * kill -9 of the server at random moments under eight writers, over and over on one data directory: what was acknowledged
 * is there after the next start, byte for byte, and opens. TACENDA_KILL_ROUNDS sets the rounds.
 */

import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { describe, expect, test } from "vitest";

import { seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder, spawnServer } from "../server-process.ts";
import { DATABASES, freshPlace, type DatabaseName } from "./databases.ts";
import { Ledger } from "./ledger.ts";
import { reportBug, reportTrials } from "./report.ts";
import { ACKNOWLEDGE_BEFORE_COMMIT } from "./seeded-bugs.ts";
import { checkValues, writeUntilKilled, type Expectation } from "./writers.ts";

const ROUNDS = Number(process.env.TACENDA_KILL_ROUNDS ?? 3);
const ROOT_TOKEN = "root-token-of-the-kill-test-0123456789abcdef";
const STORE = "ledger";
const WRITERS = 8;
/** Milliseconds between the writers' start and the kill. */
const EARLIEST_KILL = 20;
const LATEST_KILL = 600;

interface Outcome {
  acknowledged: number;
  faults: string[];
}

/** Rounds of writing and killing, each checked after the next start, and everything once more at the end. */
async function killAndCheck(bin: string, database: DatabaseName, rounds: number): Promise<Outcome> {
  const place = await freshPlace(database);
  const secret = generateSecret();
  const everything = new Ledger();
  const faults: string[] = [];
  const start = () => spawnServer({ bin, ...place, rootToken: ROOT_TOKEN });
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

describe.each(DATABASES)(`on %s, ${ROUNDS} times kill -9 under ${WRITERS} writers`, (database) => {
  const subject = { id: "R3", test: "kill -9 of the server under 8 writers", database } as const;

  test("nothing acknowledged is lost, and nothing is torn", { timeout: 30_000 + ROUNDS * 5_000 }, async () => {
    const { acknowledged, faults } = await killAndCheck(SERVER_BIN, database, ROUNDS);
    const losses = faults.filter((fault) => fault.includes("lost")).length;
    reportTrials({ ...subject, trials: ROUNDS, unit: "rounds", losses, violations: faults.length - losses });
    expect(faults).toEqual([]);
    expect(acknowledged).toBeGreaterThan(ROUNDS * WRITERS);
  });

  test("this suite catches acknowledging before the commit", async () => {
    const bin = await seedServer(await freshFolder(), [ACKNOWLEDGE_BEFORE_COMMIT]);
    const faults = (await killAndCheck(bin, database, 3)).faults.join("\n");
    const caught = faults.includes("was acknowledged and is lost");
    reportBug({ ...subject, bug: "acknowledge before commit", caught });
    expect(caught, faults).toBe(true);
  });
});
