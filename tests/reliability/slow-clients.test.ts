/**
 * Hundreds of clients that send a byte now and then, bodies without end, or read nothing: they are cut off at the server's limits,
 * its memory stays bounded, and others are served as if nothing was. TACENDA_SLOW_ROUNDS, of some seconds with and some without
 * them, has it compared how long others wait, with the server's own limits; without it those are short and nothing is timed.
 */

import { describe, expect, test } from "vitest";

import { seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder } from "../server-process.ts";
import { reportBug, reportTrials } from "./report.ts";
import { BODY_LIMIT_LIFTED, SHORT_LIMITS, TIME_LIMITS_LIFTED } from "./seeded-bugs.ts";
import {
  Attack,
  FEW,
  MANY,
  attackToTheEnd,
  openSlowWorld,
  othersFor,
  quantile,
  total,
  type SlowWorld,
} from "./slow-clients.ts";

const ROUNDS = Number(process.env.TACENDA_SLOW_ROUNDS ?? 0);
const CLIENTS = total(MANY);
const OWN_LIMITS = { headers: 10_000, request: 30_000, inactivity: 60_000 };
/** Those of SHORT_LIMITS. */
const SHORT = { headers: 4_000, request: 4_000, inactivity: 6_000 };
/** Milliseconds that others are watched for, in each half of a round. */
const HALF = 4_000;
const TRIES = 3;
/** How much longer the slowest hundredth of others may take. */
const MOST = 2;

/** How many times as long the slowest hundredth takes while there are attackers. */
async function slowdown(world: SlowWorld): Promise<number> {
  const quiet: number[] = [];
  const attacked: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    quiet.push(...(await watched(world)));
    const attack = new Attack(world);
    await attack.connected();
    attacked.push(...(await watched(world)));
    await attack.end();
  }
  const [before, under] = [quantile(quiet, 0.99), quantile(attacked, 0.99)];
  console.log(`p99 of others: ${before.toFixed(1)} ms without, ${under.toFixed(1)} ms with ${CLIENTS} slow clients`);
  return under / before;
}

async function watched(world: SlowWorld): Promise<number[]> {
  const end = performance.now() + HALF;
  const { times, faults } = await othersFor(world, () => performance.now() > end);
  expect(faults).toEqual([]);
  return times;
}

describe(`${CLIENTS} slow and endless clients`, { timeout: 180_000 + TRIES * ROUNDS * 4 * HALF }, () => {
  const subject = { id: "R10", test: "slow sockets and endless bodies", database: null } as const;

  test("are cut off at the limits, and others are served", async () => {
    const bin = ROUNDS > 0 ? SERVER_BIN : await seedServer(await freshFolder(), [SHORT_LIMITS]);
    const faults = await attackToTheEnd(await openSlowWorld(bin, ROUNDS > 0 ? OWN_LIMITS : SHORT));
    reportTrials({ ...subject, trials: CLIENTS, unit: "clients", losses: 0, violations: faults.length });
    expect(faults).toEqual([]);
  });

  if (ROUNDS > 0)
    test(`keep others waiting no more than ${MOST} times as long`, async () => {
      const world = await openSlowWorld(SERVER_BIN, OWN_LIMITS);
      const ratios: number[] = [];
      while (ratios.length < TRIES && !ratios.some((ratio) => ratio <= MOST)) ratios.push(await slowdown(world));
      const best = Math.min(...ratios);
      const row = { ...subject, test: `others' p99 under slow clients: ${best.toFixed(2)} times` };
      reportTrials({
        ...row,
        trials: ROUNDS * ratios.length,
        unit: "rounds",
        losses: 0,
        violations: best <= MOST ? 0 : 1,
      });
      expect(best, ratios.join()).toBeLessThanOrEqual(MOST);
    });

  test.each([
    ["time limits lifted", TIME_LIMITS_LIFTED, "were not cut off"],
    ["the limit of bodies lifted", BODY_LIMIT_LIFTED, "endless: answered 408"],
  ])("this suite catches %s", async (bug, edits, fault) => {
    const bin = await seedServer(await freshFolder(), [SHORT_LIMITS, ...edits]);
    const faults = (await attackToTheEnd(await openSlowWorld(bin, SHORT, FEW))).join("\n");
    reportBug({ ...subject, bug, caught: faults.includes(fault) });
    expect(faults).toContain(fault);
  });
});
