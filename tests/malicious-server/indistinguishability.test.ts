/** Whatever is wrong with a record, the caller and the server learn the same of it; spec/record.md § Opening. */

import { afterAll, beforeAll, expect, test } from "vitest";

import { type Arena, openArenas } from "./arena.js";
import { CORRUPTIONS_ATTACK, failuresOf } from "./corruptions.js";

let arenas: Awaited<ReturnType<typeof openArenas>>;
let arena: Arena;
beforeAll(async () => {
  arenas = await openArenas();
  arena = await arenas.arena();
});
afterAll(() => arenas[Symbol.asyncDispose]());

test("every corruption of a record gives one error, one message and one trace", async () => {
  await CORRUPTIONS_ATTACK.run(arena);
  expect((await failuresOf(arena)).size).toBeGreaterThan(25);
});
