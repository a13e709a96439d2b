/**
 * Work in the background on PostgreSQL, whose owner is killed or stopped for longer than its lease in the middle of it: another
 * server finishes it within bounded time, and an owner that goes on does no harm. In the long form with the times that servers
 * have, else with shorter ones.
 */

import { describe, expect, test } from "vitest";

import { seedServer, type Edit } from "../seeded-server.ts";
import { freshFolder } from "../server-process.ts";
import { LEASE_NEVER_LOST, SHORT_TIMES } from "./seeded-bugs.ts";
import { takeOver } from "./takeover-trial.ts";
import { WORKS, holdable, type Work } from "./takeover-works.ts";

const IS_LONG = process.env.TACENDA_TAKEOVERS === "long";
/** Milliseconds: the lease, the interval at which servers look for work, a transaction that hangs, and the work itself. */
const LIMIT = IS_LONG ? 15_000 + 60_000 + 8_000 + 20_000 : 30_000;
const AT_ONCE = 2;
const SIGNALS = ["SIGKILL", "SIGSTOP"] as const;

const build = async (work: Work, bugs: readonly Edit[] = []) =>
  await seedServer(await freshFolder(), [
    ...(IS_LONG ? [] : SHORT_TIMES),
    ...holdable(Object.values(work.places)),
    ...bugs,
  ]);

/** In the short form it is stopped between two transactions, and killed in one. */
function trialsOf(work: Work): (readonly [name: string, text: string, signal: (typeof SIGNALS)[number]])[] {
  const all = Object.entries(work.places).flatMap((place) => SIGNALS.map((signal) => [...place, signal] as const));
  return IS_LONG ? all : all.slice(1, 3);
}

/** Gives what went wrong, and how long each trial took, by place and signal. */
async function tryAll(work: Work) {
  const bin = await build(work);
  const faults: Record<string, string[]> = {};
  const times: Record<string, number | null> = {};
  const waiting = trialsOf(work);
  const run = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [name, text, signal] = next;
      const trial = await takeOver(bin, work, text, signal, LIMIT).catch((error: unknown) => ({
        took: null,
        faults: [String(error)],
      }));
      times[`${name}, ${signal}`] = trial.took;
      if (trial.faults.length > 0) faults[`${name}, ${signal}`] = trial.faults;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, run));
  return { faults, times };
}

describe("a server killed or stopped in the middle of", { timeout: 120_000 + 12 * LIMIT }, () => {
  test.each(WORKS.map((work) => [work.name, work] as const))("%s is replaced, and does no harm", async (_, work) => {
    const { faults, times } = await tryAll(work);
    console.table(times);
    expect(faults).toEqual({});
  });

  test("this suite catches a server that works on under a lease it has lost", async () => {
    const work = WORKS.find(({ name }) => name === "wrapping store keys anew") ?? expect.unreachable();
    const text = work.places["wraps are made and not kept"] ?? expect.unreachable();
    const bin = await build(work, LEASE_NEVER_LOST);
    const { faults } = await takeOver(bin, work, text, "SIGSTOP", LIMIT);
    expect(faults).toContain("the owner went on and did harm");
  });
});
