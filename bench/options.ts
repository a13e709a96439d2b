/** The benchmark's command line. */

import { resolve } from "node:path";
import { parseArgs } from "node:util";

import type { Plan } from "./measure.ts";
import { MAX_RECORDS } from "./scale/records.ts";

export interface Options extends Omit<Plan, "peer"> {
  json: boolean;
  /** Rows to run, in the order asked. */
  only: string[];
  /** The file of figures to compare with; undefined for none. */
  against: string | undefined;
}

/** All of `rows` are run unless some are named; `others` only when named. @throws {Error} that says what may be given. */
export function readOptions(args: readonly string[], rows: readonly string[], others: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      json: { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
      only: { type: "string", multiple: true },
      against: { type: "string" },
      rounds: { type: "string" },
      records: { type: "string" },
      database: { type: "string", multiple: true },
      shuffled: { type: "boolean", default: false },
      folder: { type: "string" },
      cold: { type: "boolean", default: false },
      "shared-buffers": { type: "string" },
    },
  });
  const only = values.only?.flatMap((list) => list.toUpperCase().split(",")) ?? [...rows];
  const all = [...rows, ...others];
  const unknown = only.filter((row) => !all.includes(row));
  if (unknown.length > 0) throw new Error(`There is no row ${unknown.join(", ")}. Choose from ${all.join(", ")}.`);
  return {
    ...{ json: values.json, quick: values.quick, cold: values.cold, shuffled: values.shuffled, only },
    against: values.against === undefined ? undefined : resolve(values.against),
    rounds: readNumber("--rounds", values.rounds, 99_999),
    records: readNumber("--records", values.records, MAX_RECORDS),
    databases: readDatabases(values.database),
    folder: values.folder === undefined ? undefined : resolve(values.folder),
    sharedBuffers: values["shared-buffers"],
  };
}

function readNumber(flag: string, text: string | undefined, most: number): number | undefined {
  if (text === undefined) return undefined;
  const number = /^[1-9][0-9]{0,8}$/.test(text) ? Number(text) : NaN;
  if (!(number <= most)) throw new Error(`${flag} must be a whole number from 1 to ${most}.`);
  return number;
}

function readDatabases(given: readonly string[] | undefined): Plan["databases"] {
  const all = { sqlite: "SQLite", postgresql: "PostgreSQL" } as const;
  const names = given?.flatMap((list) => list.toLowerCase().split(",")) ?? Object.keys(all);
  return names.map((name) => {
    if (name === "sqlite" || name === "postgresql") return all[name];
    throw new Error(`There is no database ${name}. Choose from ${Object.keys(all).join(", ")}.`);
  });
}
