/**
 * Any bit of a stored row flipped in a running server's database: detected, and only that key affected. TACENDA_FLIPS says how many
 * of them, drawn at random, and TACENDA_KEY_FLIPS how many of those in wrapped keys.
 */

import { randomInt } from "node:crypto";

import { describe, expect, test } from "vitest";

import { seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder } from "../server-process.ts";
import { DATABASES, freshPlace, type DatabaseName } from "./databases.ts";
import { reportBug, reportTrials } from "./report.ts";
import { openFlipWorld, type Flip } from "./row-flips.ts";
import { BODIES_UNBOUND, STATE_UNVERIFIED } from "./seeded-bugs.ts";

const FLIPS = Number(process.env.TACENDA_FLIPS ?? 120);
const KEY_FLIPS = Number(process.env.TACENDA_KEY_FLIPS ?? 4);
/** Enough to know. */
const MOST_FAULTS = 2;

async function flipAndRead(bin: string, database: DatabaseName, counts: { flips: number; keyFlips: number }) {
  const { flips, keyFlips, attempt } = await openFlipWorld(bin, await freshPlace(database));
  const chosen = [...someOf(flips, counts.flips), ...someOf(keyFlips, counts.keyFlips)];
  const faults: string[] = [];
  for (const flip of chosen) if (faults.length < MOST_FAULTS) faults.push(...(await attempt(flip)));
  return { trials: chosen.length, all: [...flips, ...keyFlips].flat().length, faults };
}

/** So many of them, each at most once, drawn from every group in turn. */
function someOf(groups: readonly (readonly Flip[])[], count: number): Flip[] {
  const rest = shuffled(groups).map((group) => [...group]);
  const chosen: Flip[] = [];
  while (chosen.length < count && rest.some(({ length }) => length > 0)) {
    for (const group of rest) if (group.length > 0) chosen.push(...group.splice(randomInt(group.length), 1));
  }
  return chosen.slice(0, count);
}

function shuffled<T>(list: readonly T[]): T[] {
  const keyed = list.map((item) => ({ item, key: Math.random() }));
  return keyed.sort((a, b) => a.key - b.key).map(({ item }) => item);
}

describe.each(DATABASES)("on %s, bits of stored rows flipped under a running server", (database) => {
  const subject = { id: "R13", test: "bits of stored rows flipped", database } as const;

  test("are detected, and affect only that key", { timeout: 60_000 + FLIPS * 200 + KEY_FLIPS * 5_000 }, async () => {
    const { trials, all, faults } = await flipAndRead(SERVER_BIN, database, { flips: FLIPS, keyFlips: KEY_FLIPS });
    console.log(`${database}: ${trials} of ${all} flips`);
    reportTrials({ ...subject, trials, unit: "flips", losses: 0, violations: faults.length });
    expect(faults).toEqual([]);
  });

  test.each([
    ["bodies bound to nothing", BODIES_UNBOUND],
    ["a record's state not verified", STATE_UNVERIFIED],
  ])("this suite catches %s", async (bug, edit) => {
    const bin = await seedServer(await freshFolder(), [edit]);
    const { faults } = await flipAndRead(bin, database, { flips: 120, keyFlips: 0 });
    reportBug({ ...subject, bug, caught: faults.length > 0 });
    expect(faults).not.toEqual([]);
  });
});
