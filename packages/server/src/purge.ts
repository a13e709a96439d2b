/** Deletes the rows of destroyed stores in the background, a few at a time; spec/http.md § Stores. */

import { setImmediate } from "node:timers/promises";

import { describeError, type Logger } from "./logger.js";
import type { MaintenanceStore } from "./storage/maintenance.js";

/** Rows per step: other writes come in between the steps. */
const STEP_ROWS = 500;

export interface Purge {
  /** Begins a purge, or another one after the one under way. */
  start(): void;
  /** Stops after the step under way. */
  stop(): Promise<void>;
}

export function createPurge(maintenance: MaintenanceStore, logger: Logger): Purge {
  let stopped = false;
  let work: Promise<void> = Promise.resolve();
  const run = async () => {
    try {
      while (!stopped && (await maintenance.purgeDestroyed(STEP_ROWS)) > 0) await setImmediate();
    } catch (error) {
      // The next start or destruction begins again.
      logger.error({ error: describeError(error) }, "purge of destroyed stores failed");
    }
  };
  return {
    start: () => {
      work = work.then(run);
    },
    stop: () => {
      stopped = true;
      return work;
    },
  };
}
