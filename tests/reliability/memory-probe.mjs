// Loaded into a server by NODE_OPTIONS=--import: on SIGUSR2 it collects all garbage and appends what memory is left to the file
// that TACENDA_TEST_MEMORY_FILE names.

import { appendFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc");

process.on("SIGUSR2", () => {
  // What the first one finds unreachable may hold what only the second one frees.
  collectGarbage();
  collectGarbage();
  const { heapUsed, external, rss } = process.memoryUsage();
  appendFileSync(process.env.TACENDA_TEST_MEMORY_FILE, `${JSON.stringify({ used: heapUsed + external, rss })}\n`);
});
