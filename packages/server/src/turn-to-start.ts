/**
 * One after the other, servers find out what a database lacks and make it: the project "default", the root token, the key
 * provider that all of them use. Two that start at once would each make their own, and one of each would be of no use.
 */

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { StartupError } from "./startup-error.js";
import type { MaintenanceStore } from "./storage/maintenance.js";

const LEASE = "start";
/** More than a start takes; so long others wait after a server was killed in it, in milliseconds. */
const LEASE_MILLISECONDS = 60_000;
const POLL_MILLISECONDS = 100;

export interface Turn {
  /** Lets the next one start. Can be called again. */
  end(): Promise<void>;
}

/** Waits for the turn. `owner`: whoever is the same does not wait for itself. @throws {StartupError} when it does not come. */
export async function takeTurnToStart(maintenance: MaintenanceStore, owner: string = randomUUID()): Promise<Turn> {
  const deadline = Date.now() + 2 * LEASE_MILLISECONDS;
  while (!(await maintenance.acquireLease(LEASE, owner, Date.now(), LEASE_MILLISECONDS))) {
    if (Date.now() > deadline) {
      throw new StartupError(
        "Other servers have been starting on this database for minutes, or a restore or copy is under way. Try again when they are done.",
      );
    }
    await sleep(POLL_MILLISECONDS);
  }
  let ended: Promise<void> | undefined;
  return { end: () => (ended ??= maintenance.releaseLease(LEASE, owner)) };
}
