/**
 * The master property: every read gives a value that some holder of the secret wrote to that very key, no older
 * than what this client has seen, or throws a typed error; never another value. TACENDA_SEQUENCES says how many sequences.
 */

import fc from "fast-check";
import { afterAll, beforeAll, test } from "vitest";

import { openArenas, withoutJitter } from "./arena.js";
import { runSequence, sequences } from "./sequences.js";

const RUNS = Number(process.env.TACENDA_SEQUENCES ?? 500);

let arenas: Awaited<ReturnType<typeof openArenas>>;
beforeAll(async () => void (arenas = await openArenas()));
afterAll(() => arenas[Symbol.asyncDispose]());

test(`the master property holds over ${RUNS} sequences`, { timeout: 60_000 + RUNS * 500 }, async () => {
  withoutJitter();
  const arena = await arenas.arena();
  await fc.assert(
    fc.asyncProperty(sequences, (steps) => runSequence(arena, steps)),
    { numRuns: RUNS },
  );
});
