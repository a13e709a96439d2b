/** What a row of the table reports, and how rounds are run: contenders take turns, so that drift meets them alike. */

import type { PeerClient } from "./peer.ts";
import { type Summary, summarize } from "./stats.ts";

/** How much to run. */
export interface Plan {
  /** Overrides a row's own number of rounds. */
  rounds: number | undefined;
  /** Shorter and fewer rounds, to see that everything works. */
  quick: boolean;
  /** Null when it is not installed. */
  peer: PeerClient | null;
  /** Of P9: how many records are many, on which databases, in what order they are written, and where they stay. */
  records: number | undefined;
  databases: readonly ("SQLite" | "PostgreSQL")[];
  shuffled: boolean;
  /** Undefined: below the temporary folder, and not for longer than the run. */
  folder: string | undefined;
  /** Whether the database is left where it is. Else it is read once, so that it is in memory as far as there is room. */
  cold: boolean;
  /** PostgreSQL's setting, for instance 10GB. Undefined: a quarter of the memory. */
  sharedBuffers: string | undefined;
}

/** One line of the table. */
export interface Measure {
  /** Of quality targets: P1, P2, … */
  row: string;
  what: string;
  unit: "units" | "µs" | "×" | "/s";
  ours: Summary;
  target?: { bound: "at most" | "at least"; value: number };
  /** The closest peer's published client in the same rounds; null when it is not installed. */
  peer?: Summary | null;
}

/** What a row gives: its lines, and the absolute figures behind them. */
export interface RowResult {
  measures: Measure[];
  notes: string[];
}

/** Whether a measure meets its target; undefined when it has none. */
export function isMet({ ours, target }: Measure): boolean | undefined {
  if (target === undefined) return undefined;
  return target.bound === "at most" ? ours.median <= target.value : ours.median >= target.value;
}

/** Rounds to run of a row that takes `usual` of them, or `quick` in a hurry. */
export function roundsOf(plan: Plan, usual: number, quick: number): number {
  return plan.rounds ?? (plan.quick ? quick : usual);
}

/** Results of all rounds, by contender. */
export type Rounds<Name extends string, Result> = Record<Name, Result[]>;

/**
 * Runs every contender once per round, each round in the reverse order of the one before. `warmUps` rounds come first and
 * are thrown away.
 */
export async function interleave<Name extends string, Result>(
  rounds: number,
  warmUps: number,
  contenders: Record<Name, (round: number) => Promise<Result>>,
): Promise<Rounds<Name, Result>> {
  const names = Object.keys(contenders) as Name[];
  const results = Object.fromEntries(names.map((name) => [name, [] as Result[]])) as Rounds<Name, Result>;
  for (let round = 0; round < warmUps + rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const result = await contenders[name](round);
      if (round >= warmUps) results[name].push(result);
    }
  }
  return results;
}

/** Each round's result of one contender against another's of the same round, summarized. */
export function compare(
  of: readonly number[],
  with_: readonly number[],
  how: (one: number, other: number) => number,
): Summary {
  return summarize(of.map((one, round) => how(one, with_[round] ?? NaN)));
}

export function ratio(one: number, other: number): number {
  return one / other;
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}
