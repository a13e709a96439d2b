/** Trying again after other writers were faster, within bounds. */

import { delay } from "./concurrency.js";
import { ConflictError } from "./errors.js";
import type { CallOptions } from "./http/record-api.js";

const MAX_ROUNDS = 30;
/** Milliseconds between two rounds at most; the jitter spreads writers that lost together. */
const LONGEST_PAUSE = 250;

/** What a round came to: a result, or the version that was in its way. */
export type Round<T> = { done: T } | { outrunBy: number };

/**
 * Runs `round` until it is done, with growing pauses.
 *
 * @throws {ConflictError} when there were too many rounds, or the call's time is over.
 */
export async function inRounds<T>(call: CallOptions, round: () => Promise<Round<T>>): Promise<T> {
  let currentVersion = 0;
  for (let count = 0; count < MAX_ROUNDS && call.timeout !== 0; count++) {
    if (count > 1) await delay(Math.random() * Math.min(LONGEST_PAUSE, 10 * 2 ** (count - 1)), call.signal);
    const outcome = await round();
    if ("done" in outcome) return outcome.done;
    currentVersion = outcome.outrunBy;
  }
  throw new ConflictError("Other writers of this key were faster each time. Try again.", { currentVersion });
}
