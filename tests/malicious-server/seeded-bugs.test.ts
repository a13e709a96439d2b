/**
 * Shows that this suite can fail: with each bug planted in a copy of the SDK, some attack of spec/record.md § Opening, § Marks
 * or § Writing succeeds. With TACENDA_SEQUENCES set, some random sequences are tried on each bug as well.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";

import type { Edit } from "../seeded-server.js";
import { openArenas, withoutJitter } from "./arena.js";
import { ATTACKS } from "./attacks.js";
import { loadSeededSdk } from "./sdk.js";
import { SEEDED_BUGS } from "./seeded-bugs.js";
import { runSequence, sequences } from "./sequences.js";
import { within } from "./within.js";

/** Not every bug shows in random sequences, so they get a few only. */
const SEQUENCES = Math.floor(Number(process.env.TACENDA_SEQUENCES ?? 0) / 20);
/** Milliseconds in which an attack fails or succeeds. */
const ATTACK_LIMIT = 5_000;

let arenas: Awaited<ReturnType<typeof openArenas>>;
const table: string[] = [];
beforeAll(async () => void (arenas = await openArenas()));
afterAll(async () => {
  await arenas[Symbol.asyncDispose]();
  console.log(["seeded bug | caught by", ...table].join("\n"));
});

/** What succeeds against a copy of the SDK with the edits made. */
async function attackCopy(edits: readonly Edit[]): Promise<string[]> {
  withoutJitter();
  const folder = await mkdtemp(join(tmpdir(), "tacenda-"));
  try {
    const caught: string[] = [];
    const arena = await arenas.arena(await loadSeededSdk(folder, edits));
    for (const { name, run } of ATTACKS) {
      const attack = Promise.resolve().then(() => run(arena));
      await within(ATTACK_LIMIT, attack).catch(() => caught.push(name));
      arena.adversary.forget();
    }
    if (SEQUENCES > 0) {
      const property = fc.asyncProperty(sequences, (steps) => runSequence(arena, steps));
      const { failed, numRuns } = await fc.check(property, { numRuns: SEQUENCES, endOnFailure: true });
      if (failed) caught.push(`the master property, after ${numRuns} sequences`);
    }
    return caught;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const timeout = 60_000 + SEQUENCES * 500;

test("a copy without a bug withstands everything", { timeout }, async () => {
  expect(await attackCopy([])).toEqual([]);
});

test.each(SEEDED_BUGS)("caught: $name", { timeout }, async ({ name, edits }) => {
  const caught = await attackCopy(edits);
  table.push(`${name} | ${caught.join("; ")}`);
  expect(caught).not.toEqual([]);
});
