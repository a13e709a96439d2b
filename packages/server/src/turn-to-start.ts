/**
 * One after the other, servers find out what a database lacks and make it: the project "default", the root token, the key
 * provider that all of them use. Two that start at once would each make their own, and one of each would be of no use.
 */

import { setTimeout as sleep } from "node:timers/promises";

import { Lease, RENEW_MILLISECONDS } from "./lease.js";
import { StartupError } from "./startup-error.js";
import type { MaintenanceStore } from "./storage/maintenance.js";

const PATIENCE_MILLISECONDS = 120_000;
const POLL_MILLISECONDS = 100;

export interface Turn {
  /** Lets the next one start. Can be called again. */
  end(): Promise<void>;
}

/** Waits for the turn. `owner`: whoever is the same does not wait for itself. @throws {StartupError} when it does not come. */
export async function takeTurnToStart(maintenance: MaintenanceStore, owner?: string): Promise<Turn> {
  const lease = new Lease(maintenance, "start", owner);
  const deadline = performance.now() + PATIENCE_MILLISECONDS;
  while (!(await lease.take())) {
    if (performance.now() > deadline) {
      throw new StartupError(
        "Other servers have been starting on this database for minutes, or a restore or copy is under way. Try again when they are done.",
      );
    }
    await sleep(POLL_MILLISECONDS);
  }
  // Whoever loses it notices when it makes something that is there by then (Directory.replaceSetting).
  const renewal = setInterval(() => void lease.holds().catch(() => undefined), RENEW_MILLISECONDS).unref();
  let ended: Promise<void> | undefined;
  return {
    end() {
      clearInterval(renewal);
      return (ended ??= lease.release());
    },
  };
}
