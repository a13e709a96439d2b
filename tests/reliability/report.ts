/**
 * What the trials of this suite came to: one line per test and database, from which `npm run test:reliability` makes its table.
 * Without TACENDA_RELIABILITY_RESULTS, the file to append to, nothing is kept.
 */

import { appendFileSync } from "node:fs";

import type { DatabaseName } from "./databases.ts";

/** The suite's tests, by the numbers of CONTRIBUTING.md § The reliability suite. */
type TrialId =
  | "R1"
  | "R3"
  | "R4"
  | "R6"
  | "R7"
  | "R8"
  | "R9"
  | "R10"
  | "R12"
  | "R13"
  | "R15"
  | "failover"
  | "overload"
  | "soak"
  | "copy";

interface Subject {
  id: TrialId;
  /** What was done, in a few words. */
  test?: string;
  /** Null where the database makes no difference. */
  database: DatabaseName | null;
}

export interface Trials extends Subject {
  test: string;
  /** How often, and of what: 200, "rounds". */
  trials: number;
  unit: string;
  /** What was acknowledged and is not there. */
  losses: number;
  /** Everything else that must not be: a torn or stale value, an answer that no order explains, a 5xx. */
  violations: number;
}

/** Call it before the test's assertions, so that the table shows what they refuse. */
export function reportTrials(row: Trials): void {
  append({ kind: "trials", ...row });
}

/** A bug was planted, and whether the test saw it. */
export function reportBug(row: Subject & { bug: string; caught: boolean }): void {
  append({ kind: "bug", ...row });
}

function append(row: object): void {
  const file = process.env.TACENDA_RELIABILITY_RESULTS;
  if (file !== undefined) appendFileSync(file, `${JSON.stringify(row)}\n`);
}
