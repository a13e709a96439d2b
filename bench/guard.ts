/** Compares a run with figures that were kept: a drop shows in the log, and is no failure, for machines differ. */

import { readFileSync } from "node:fs";

import type { Machine } from "./machine.ts";
import type { Measure } from "./measure.ts";

/** From this share on a median counts as worse. Rounds of a short run differ by less, as a rule. */
const DROP = 0.25;

/** What `--json` prints, as far as it is needed here. */
export interface Figures {
  machine: Machine;
  measures: Measure[];
}

/** @throws {Error} when the file is no output of `--json`. */
export function readFigures(file: string): Figures {
  const figures = JSON.parse(readFileSync(file, "utf8")) as Partial<Figures>;
  if (figures.machine === undefined || !Array.isArray(figures.measures)) {
    throw new Error(`${file} is not what npm run --silent bench -- --json prints.`);
  }
  return { machine: figures.machine, measures: figures.measures };
}

/** A line for each measure with a target that has become worse, and one on what they were compared with. */
export function formatComparison(measures: readonly Measure[], { machine, measures: kept }: Figures): string {
  const pairs = measures.flatMap((measure) => {
    const before = kept.find(({ row, what }) => row === measure.row && what === measure.what);
    return measure.target === undefined || before === undefined ? [] : [{ measure, before }];
  });
  const worse = pairs.filter(({ measure, before }) => isWorse(measure, before));
  const lines = worse.map(
    ({ measure: { row, what, ours }, before }) =>
      `WORSE: ${row} ${what}: ${ours.median.toFixed(2)} instead of ${before.ours.median.toFixed(2)}`,
  );
  const with_ = `figures of ${machine.cpu}, Node ${machine.node}`;
  return [
    `${pairs.length} measures compared with ${with_}: ${worse.length} worse by a quarter or more.`,
    ...lines,
  ].join("\n");
}

function isWorse({ ours, target }: Measure, before: Measure): boolean {
  const change = ours.median / before.ours.median;
  return target?.bound === "at least" ? change <= 1 - DROP : change >= 1 / (1 - DROP);
}
