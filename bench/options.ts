/** The benchmark's command line. */

import { parseArgs } from "node:util";

import type { Plan } from "./measure.ts";

export interface Options extends Omit<Plan, "peer"> {
  json: boolean;
  /** Rows to run, in the order asked. */
  only: string[];
}

/** @throws {Error} that says what may be given. */
export function readOptions(args: readonly string[], rows: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      json: { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
      only: { type: "string", multiple: true },
      rounds: { type: "string" },
    },
  });
  const only = values.only?.flatMap((list) => list.toUpperCase().split(",")) ?? [...rows];
  const unknown = only.filter((row) => !rows.includes(row));
  if (unknown.length > 0) throw new Error(`There is no row ${unknown.join(", ")}. Choose from ${rows.join(", ")}.`);
  return { json: values.json, quick: values.quick, only, rounds: readRounds(values.rounds) };
}

function readRounds(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const rounds = /^[1-9][0-9]{0,4}$/.test(text) ? Number(text) : NaN;
  if (Number.isNaN(rounds)) throw new Error("--rounds must be a whole number from 1 to 99999.");
  return rounds;
}
