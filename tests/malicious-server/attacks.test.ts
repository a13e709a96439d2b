/** A server that attacks each defence of the client by itself; spec/record.md § Opening, § Marks, § Writing. */

import { afterAll, beforeAll, test } from "vitest";

import { type Arena, openArenas } from "./arena.js";
import { ATTACKS } from "./attacks.js";

let arenas: Awaited<ReturnType<typeof openArenas>>;
let arena: Arena;
beforeAll(async () => {
  arenas = await openArenas();
  arena = await arenas.arena();
});
afterAll(() => arenas[Symbol.asyncDispose]());

test.each(ATTACKS)("withstood: $name", async ({ run }) => await run(arena));
