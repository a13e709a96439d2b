/** `npm run bench`: measures what ships against baselines of the same run, and prints one table; bench/README.md. */

import { formatComparison, readFigures } from "./guard.ts";
import { formatMachine, formatTable } from "./table.ts";
import { describeMachine } from "./machine.ts";
import { type Plan, type RowResult, isMet } from "./measure.ts";
import { readOptions } from "./options.ts";
import { loadPeer } from "./peer.ts";
import { growth } from "./rows/growth.ts";
import { p1 } from "./rows/p1.ts";
import { p2 } from "./rows/p2.ts";
import { p3 } from "./rows/p3.ts";
import { p7 } from "./rows/p7.ts";
import { p8 } from "./rows/p8.ts";
import { p9 } from "./rows/p9.ts";
import { p10 } from "./rows/p10.ts";

const ROWS: Record<string, (plan: Plan) => Promise<RowResult>> = {
  ...{ P1: p1, P2: p2, P3: p3, P7: p7, P8: p8, P9: p9, P10: p10 },
};
/** Curves without targets, only when asked for. */
const CURVES: typeof ROWS = { GROWTH: growth };
/** Rows that the peer's published client has a part in; of its server nothing is published that could be measured here. */
const WITH_PEER = new Set(["P1", "P2"]);

const options = readOptions(process.argv.slice(2), Object.keys(ROWS), Object.keys(CURVES));
const peer = options.only.some((row) => WITH_PEER.has(row)) ? await loadPeer() : null;

// Before anything is measured: the file may be missing.
const figures = options.against === undefined ? null : readFigures(options.against);
const machine = describeMachine();
const results: RowResult[] = [];
for (const row of options.only) {
  process.stderr.write(`Measuring ${row} …\n`);
  const run = ROWS[row] ?? CURVES[row];
  if (run !== undefined) results.push(await run({ ...options, peer }));
}
const measures = results.flatMap((result) => result.measures);
const notes = results.flatMap((result) => result.notes);

if (options.json) {
  const judged = measures.map((measure) => ({ ...measure, met: isMet(measure) }));
  process.stdout.write(`${JSON.stringify({ machine, measures: judged, notes }, null, 2)}\n`);
} else {
  const text = ["", formatMachine(machine), "", formatTable(measures), "", ...notes, ""];
  if (figures !== null) text.push(formatComparison(measures, figures), "");
  process.stdout.write(text.join("\n"));
}
