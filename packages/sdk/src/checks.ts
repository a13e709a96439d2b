/** Checks of what callers give as options. */

import { isId } from "@tacenda/protocol";

import { ConfigurationError } from "./errors.js";

/** @throws {ConfigurationError} */
export function checkId(what: "project" | "store", id: string): string {
  if (typeof id === "string" && isId(id)) return id;
  throw new ConfigurationError(
    `The ${what} id must be 1 to 63 of a-z, 0-9, "_" and "-", and begin with a letter or digit.`,
  );
}

/** @throws {ConfigurationError} */
export function checkInteger(name: string, value: number, least: number, most: number): number {
  if (Number.isSafeInteger(value) && value >= least && value <= most) return value;
  throw new ConfigurationError(`\`${name}\` must be an integer from ${least} to ${most}.`);
}
