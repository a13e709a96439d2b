/** How long the server tries for before it says that it could not. */

import { setTimeout as sleep } from "node:timers/promises";

/**
 * How long what was lost with its connection is begun again, in milliseconds from when it was asked for: a primary is often
 * replaced within that time, and clients that hear of it after four seconds have time for another attempt.
 */
export const PATIENCE = 4_000;
/** Milliseconds after which a request has its answer, whatever the database does. Clients wait ten seconds. */
export const LIMIT = 8_000;
/** The longest pause before a second attempt, in milliseconds; it doubles with each one, up to the limit. */
const PAUSE = 10;
const MAX_PAUSE = 500;

/** Waits before another attempt at something, after `count` of them. */
export async function pause(count: number): Promise<void> {
  await sleep(Math.min(PAUSE * 2 ** (count - 1), MAX_PAUSE) * (0.5 + Math.random() / 2));
}
