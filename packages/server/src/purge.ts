/**
 * Deletes in the background, a little at a time, the rows of destroyed stores and of versions that are not kept any more;
 * spec/http.md § Stores, § Writing a record.
 */

import { setImmediate } from "node:timers/promises";

import { describeError, type Logger } from "./logger.js";
import type { MaintenanceStore } from "./storage/maintenance.js";

/** Per step: other writes come in between the steps. Deleting costs as much as writing, for what goes is overwritten. */
const STEP_ROWS = 500;
const STEP_BYTES = 1_048_576;
/** How often to look for what no call has announced, or a failure has left, in milliseconds. */
const INTERVAL = 60_000;

export interface Purge {
  /** Begins a purge, or has the one under way look again; from the first call on there is one every minute besides. */
  start(): void;
  /** Stops after the step under way. */
  stop(): Promise<void>;
}

export function createPurge(maintenance: MaintenanceStore, logger: Logger): Purge {
  let stopped = false;
  let wanted = false;
  let work: Promise<void> | null = null;
  let timer: NodeJS.Timeout | undefined;
  const run = async () => {
    while (wanted) {
      wanted = false;
      try {
        let purged = false;
        while (!stopped && (await maintenance.purgeDestroyed(STEP_ROWS, STEP_BYTES)) > 0) {
          purged = true;
          await setImmediate();
        }
        if (purged) await maintenance.scrub();
      } catch (error) {
        logger.error({ error: describeError(error) }, "purge failed");
      }
    }
    work = null;
  };
  const start = () => {
    wanted = true;
    work ??= run();
    timer ??= setInterval(start, INTERVAL).unref();
  };
  return {
    start,
    async stop() {
      stopped = true;
      clearInterval(timer);
      await work;
    },
  };
}
