/** Durations and dates as callers write them. */

import { MAX_TIME } from "@tacenda/protocol";

import { ConfigurationError } from "./errors.js";

/** `"90s"`, `"15m"`, `"12h"`, `"30d"`, `"4w"`, or milliseconds. */
export type Duration = `${number}${"s" | "m" | "h" | "d" | "w"}` | number;

/** When a value expires: after a while, or at a time. */
export interface ExpiryOptions {
  /** Expires this long after now, by this machine's clock. */
  expiresIn?: Duration | undefined;
  /** Expires at this time. */
  expiresAt?: Date | undefined;
}

const MILLISECONDS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;

/** Milliseconds of a duration, more than 0. @throws {ConfigurationError} */
export function milliseconds(duration: Duration): number {
  const parts = /^(\d{1,9})([smhdw])$/.exec(String(duration));
  const unit = parts?.[2] as keyof typeof MILLISECONDS | undefined;
  const value = unit === undefined ? duration : Number(parts?.[1]) * MILLISECONDS[unit];
  if (typeof value === "number" && Number.isFinite(value) && value > 0 && value <= MAX_TIME) return Math.ceil(value);
  throw new ConfigurationError(
    'A duration is a positive number of milliseconds, or a text such as "15m", "12h" or "30d".',
  );
}

/** The expiry in milliseconds since the epoch, 0 for never. @throws {ConfigurationError} */
export function expiryOf({ expiresIn, expiresAt }: ExpiryOptions): number {
  if (expiresIn !== undefined && expiresAt !== undefined) {
    throw new ConfigurationError("Give `expiresIn` or `expiresAt`, not both.");
  }
  if (expiresIn === undefined && expiresAt === undefined) return 0;
  const time = expiresIn !== undefined ? Date.now() + milliseconds(expiresIn) : (expiresAt?.getTime() ?? NaN);
  if (time > Date.now() && time <= MAX_TIME) return time;
  throw new ConfigurationError("The expiry must be a date in the future.");
}
