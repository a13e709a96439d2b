/**
 * kill -9 in the middle of key operations: at every step of each, and at random moments under eight writers. The next server
 * reads everything that was acknowledged, brings the work to its end by itself, and takes new writes.
 */

import { describe, expect, test } from "vitest";

import { seedServer } from "../seeded-server.ts";
import { freshFolder } from "../server-process.ts";
import { killInRounds } from "./kill-rounds.ts";
import { killAtStep, makeTemplates } from "./kill-at-step.ts";
import { DISTINCT_STEPS, KILLABLE, STEPS, type KillStep } from "./kill-steps.ts";
import {
  DATA_KEY_DELETED_EARLY,
  KEYRING_IN_PLACE,
  RETIRED_IN_USE,
  SHORT_LEASE,
  WRONG_KEY_UNVERIFIED,
} from "./seeded-bugs.ts";

const ROUNDS = Number(process.env.TACENDA_KEY_KILL_ROUNDS ?? 3);
/** In the long form every step of every operation, else every place once. */
const STEPS_NOW = process.env.TACENDA_KEY_KILL_ROUNDS === undefined ? DISTINCT_STEPS : STEPS;
/** Servers at once: most of the time they wait for the lease of the killed one to end. */
const AT_ONCE = 10;

/** Gives what went wrong, by step. */
async function killAtSteps(killable: string, steps: readonly KillStep[]): Promise<Record<string, string[]>> {
  const templates = await makeTemplates();
  const faults: Record<string, string[]> = {};
  const waiting = [...steps];
  const work = async () => {
    for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) {
      const found = await killAtStep(killable, step, templates).catch((error: unknown) => [String(error)]);
      if (found.length > 0) faults[`${step.operation}: ${step.name}`] = found;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return faults;
}

describe("kill -9 at every step of key operations", { timeout: 240_000 }, () => {
  test(`at none of ${STEPS_NOW.length} anything is lost, and all work comes to its end`, async () => {
    const killable = await seedServer(await freshFolder(), KILLABLE);
    expect(await killAtSteps(killable, STEPS_NOW)).toEqual({});
  });

  test("this suite catches a keyring that is written in its place", async () => {
    const name = "the new keyring is made and empty";
    const step = STEPS.find((one) => one.name === name) ?? expect.unreachable();
    const killable = await seedServer(await freshFolder(), [KEYRING_IN_PLACE, ...KILLABLE]);
    expect(Object.keys(await killAtSteps(killable, [step]))).toEqual([`${step.operation}: ${name}`]);
  });
});

describe(
  `${ROUNDS} times kill -9 amid key operations under eight writers`,
  { timeout: 120_000 + ROUNDS * 10_000 },
  () => {
    test("nothing acknowledged is lost, and all work comes to its end", async () => {
      const bin = await seedServer(await freshFolder(), [SHORT_LEASE]);
      const { faults, ...counts } = await killInRounds(bin, ROUNDS);
      console.log(counts);
      expect(faults).toEqual([]);
      expect(counts.acknowledged).toBeGreaterThan(ROUNDS * 8);
    });

    test.each([
      ["another key wrapped, unverified", "rotate", WRONG_KEY_UNVERIFIED],
      ["master keys retired in use", "rotateAndRetire", [RETIRED_IN_USE]],
      ["a data key that is deleted too early", "reencrypt", DATA_KEY_DELETED_EARLY],
    ] as const)("this suite catches %s", async (_, operation, bug) => {
      const bin = await seedServer(await freshFolder(), [SHORT_LEASE, ...bug]);
      expect((await killInRounds(bin, 6, operation)).faults).not.toEqual([]);
    });
  },
);
