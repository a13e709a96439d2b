/**
 * kill -9 of the server at random moments under eight writers, over and over on one data directory, or of two servers on one
 * database, each at a moment of its own: what was acknowledged is there after the next start, byte for byte, and opens.
 * TACENDA_KILL_ROUNDS sets the rounds.
 */

import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { describe, expect, test } from "vitest";

import { seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder, spawnServer, type ServerProcess } from "../server-process.ts";
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
const LONGEST_WAIT = 10_000;

interface Outcome {
  acknowledged: number;
  faults: string[];
}

interface Subject {
  database: DatabaseName;
  servers: number;
}

/** Rounds of writing and killing, each checked after the next start, and everything once more at the end. */
async function killAndCheck(
  bin: string,
  { database, servers: count }: Subject,
  { rounds, untilFault = false }: { rounds: number; untilFault?: boolean },
): Promise<Outcome> {
  const place = await freshPlace(database);
  const secret = generateSecret();
  const everything = new Ledger();
  const faults: string[] = [];
  const start = async (): Promise<ServerProcess[]> => {
    const servers: ServerProcess[] = [];
    for (let index = 0; index < count; index++)
      servers.push(await spawnServer({ bin, ...place, rootToken: ROOT_TOKEN }));
    return servers;
  };
  let servers = await start();
  const urlOf = (index: number) => servers[index % count]?.url ?? "";
  await new TacendaAdmin({ url: urlOf(0), token: ROOT_TOKEN }).stores.create(STORE);
  const open = (index: number, fetch: typeof globalThis.fetch) =>
    new Tacenda({ url: urlOf(index), token: ROOT_TOKEN, fetch, maxAttempts: 1 }).getStore(STORE, {
      secret,
      stretch: "store",
    });
  for (let round = 0; round < rounds && !(untilFault && faults.length > 0); round++) {
    const expected = new Map<string, Expectation>();
    const writing = servers.map((_, index) => open(index, everything.fetch));
    const writers = Array.from({ length: WRITERS }, (_, writer) =>
      writeUntilKilled(writing[writer % count] ?? expect.unreachable(), `round-${round}-writer-${writer}`, expected),
    );
    const killed = servers.map(async (server) => {
      await sleep(randomInt(EARLIEST_KILL, LATEST_KILL));
      await untilAcknowledged(randomInt(1, 2 * WRITERS), expected);
      await server.end("SIGKILL");
    });
    await Promise.all(killed);
    faults.push(...(await Promise.all(writers)).flat());
    servers = await start();
    // By each server in its turn: mostly not the one that has acknowledged it.
    faults.push(...(await checkValues(open(round, globalThis.fetch), expected)));
  }
  faults.push(...(await everything.audit(urlOf(0), ROOT_TOKEN)));
  await Promise.all(servers.map((server) => server.end("SIGTERM")));
  return { acknowledged: everything.acknowledged, faults };
}

/** On a busy machine the first write may take longer than the writers have. */
async function untilAcknowledged(count: number, expected: ReadonlyMap<string, Expectation>): Promise<void> {
  const deadline = performance.now() + LONGEST_WAIT;
  const enough = () => [...expected.values()].filter(({ acknowledged }) => acknowledged !== null).length >= count;
  while (!enough() && performance.now() < deadline) await sleep(2);
}

const EACH_DATABASE: readonly Subject[] = DATABASES.map((database) => ({ database, servers: 1 }));

function rowOf({ database, servers }: Subject) {
  const who = servers === 1 ? "the server" : `${servers} servers`;
  return { id: "R3", test: `kill -9 of ${who} under ${WRITERS} writers`, database } as const;
}

describe(`${ROUNDS} times kill -9 under ${WRITERS} writers`, () => {
  test.each<Subject>([...EACH_DATABASE, { database: "PostgreSQL", servers: 2 }])(
    "of $servers on $database: nothing acknowledged is lost, and nothing is torn",
    { timeout: 120_000 + ROUNDS * 10_000 },
    async (subject) => {
      const { acknowledged, faults } = await killAndCheck(SERVER_BIN, subject, { rounds: ROUNDS });
      const losses = faults.filter((fault) => fault.includes("lost")).length;
      const violations = faults.length - losses;
      reportTrials({ ...rowOf(subject), trials: ROUNDS, unit: "rounds", losses, violations });
      expect(faults).toEqual([]);
      expect(acknowledged).toBeGreaterThanOrEqual(ROUNDS);
    },
  );

  test.each(EACH_DATABASE)(
    "on $database this suite catches acknowledging before the commit",
    { timeout: 120_000 },
    async (subject) => {
      const bin = await seedServer(await freshFolder(), [ACKNOWLEDGE_BEFORE_COMMIT]);
      const faults = (await killAndCheck(bin, subject, { rounds: 20, untilFault: true })).faults.join("\n");
      // Either the ledger says so, or a client that has seen it.
      const caught = faults.includes("was acknowledged and is lost") || faults.includes("RollbackError");
      reportBug({ ...rowOf(subject), bug: "acknowledge before commit", caught });
      expect(caught, faults).toBe(true);
    },
  );
});
