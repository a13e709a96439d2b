/**
 * PostgreSQL ends and starts again in mid-write, and connections to it break at every moment, above all around COMMIT, while
 * eight writers write to two servers: nothing acknowledged is lost, nothing is written twice. TACENDA_DATABASE_FAILURES sets
 * how often each failure happens.
 */

import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { generateSecret } from "@tacenda/sdk";
import { describe, expect, test } from "vitest";

import { seedServer, type Edit } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder } from "../server-process.ts";
import { ROOT_TOKEN, anyOf, deploy, fetchBy, storeBy } from "./deployment.ts";
import {
  COMMIT_CUTS,
  CONNECTION_CUTS,
  DATABASE_RESTARTS,
  WHOLE_SILENCES,
  disturb,
  type Disturbance,
} from "./disturbances.ts";
import { Ledger } from "./ledger.ts";
import { reportBug, reportTrials } from "./report.ts";
import { ACKNOWLEDGE_BEFORE_COMMIT, COMMIT_LOST_IS_DONE, RETRY_OF_UNKNOWN_COMMIT } from "./seeded-bugs.ts";
import { checkValues, writeThroughFailures, type Expectation } from "./writers.ts";

const TIMES = Number(process.env.TACENDA_DATABASE_FAILURES ?? 1);
const IS_LONG = process.env.TACENDA_DATABASE_FAILURES !== undefined;
const SERVERS = 2;
const WRITERS = 8;

interface Outcome {
  trials: number;
  acknowledged: number;
  faults: string[];
}

/** Half a minute each. */
const SILENCES = Math.ceil(TIMES / 5);

/** Each of the disturbances in its turn, `times` times; each is checked when it is over, and everything once more in the end. */
async function disturbAndCheck(bin: string, disturbances: readonly Disturbance[], times: number): Promise<Outcome> {
  const deployment = await deploy(bin, "PostgreSQL", SERVERS);
  const { servers } = deployment;
  const ledger = new Ledger();
  const secret = generateSecret();
  const aServer = () => anyOf(servers);
  const writing = storeBy(fetchBy(aServer, ledger.fetch), secret);
  const faults: string[] = [];
  const trials = Array.from({ length: times }, () => disturbances).flat();
  for (const [trial, disturbance] of trials.entries()) {
    const expected = new Map<string, Expectation>();
    const stop = new AbortController();
    const writers = Array.from({ length: WRITERS }, (_, writer) =>
      writeThroughFailures(writing, `trial-${trial}-writer-${writer}`, expected, stop.signal),
    );
    try {
      await disturb(deployment, disturbance);
      await sleep(randomInt(100));
    } finally {
      stop.abort();
    }
    const found = (await Promise.all(writers)).flat();
    // By a client that has seen nothing yet.
    found.push(...(await checkValues(storeBy(fetchBy(aServer), secret), expected)));
    faults.push(...found.map((fault) => `${disturbance.name}: ${fault}`));
  }
  faults.push(...(await ledger.audit(servers[0]?.url ?? "", ROOT_TOKEN)), ...deployment.faults);
  await Promise.all(servers.map((server) => server.end("SIGTERM")));
  return { trials: trials.length, acknowledged: ledger.acknowledged, faults };
}

describe(`PostgreSQL fails under ${WRITERS} writers on ${SERVERS} servers`, () => {
  test.each([
    ["database restarts in mid-write", DATABASE_RESTARTS, TIMES],
    ["connections cut in mid-write, above all at COMMIT", CONNECTION_CUTS, TIMES],
    ...(IS_LONG ? ([["silence until the server gives up", WHOLE_SILENCES, SILENCES]] as const) : []),
  ] as const)(
    "%s: nothing is lost or written twice",
    { timeout: 120_000 + TIMES * 120_000 },
    async (name, kinds, times) => {
      const { trials, acknowledged, faults } = await disturbAndCheck(SERVER_BIN, kinds, times);
      const losses = faults.filter((fault) => fault.includes("lost")).length;
      const violations = faults.length - losses;
      reportTrials({ id: "R6", test: name, database: "PostgreSQL", trials, unit: "failures", losses, violations });
      expect(faults).toEqual([]);
      expect(acknowledged).toBeGreaterThan(trials);
    },
  );

  test.each<readonly [bug: string, edits: readonly Edit[], fault: string]>([
    ["acknowledge before commit", [ACKNOWLEDGE_BEFORE_COMMIT], "was acknowledged and is lost"],
    ["a connection lost at COMMIT taken for success", [COMMIT_LOST_IS_DONE], "was acknowledged and is lost"],
    ["a write made again after a COMMIT of unknown outcome", [RETRY_OF_UNKNOWN_COMMIT], "nobody wrote"],
  ])("this suite catches %s", { timeout: 120_000 }, async (bug, edits, fault) => {
    const bin = await seedServer(await freshFolder(), edits);
    const faults = (await disturbAndCheck(bin, COMMIT_CUTS, 2)).faults.join("\n");
    const caught = faults.includes(fault);
    reportBug({ id: "R6", test: "connections cut at COMMIT", database: "PostgreSQL", bug, caught });
    expect(caught, faults).toBe(true);
  });
});
