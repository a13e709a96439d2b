/**
 * Deletes in the background, a little at a time, the rows of destroyed stores and of versions that are not kept any more;
 * spec/http.md § Stores, § Writing a record.
 */

import { describeError, type Logger } from "./logger.js";
import { restAfter } from "./pace.js";
import type { MaintenanceStore } from "./storage/maintenance.js";

/**
 * Per step: other requests come in between the steps, and on SQLite wait for one. Deleting costs as much as writing, for what goes
 * is overwritten.
 */
const STEP_ROWS = 128;
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
        for (let started = performance.now(); !stopped; started = performance.now()) {
          if ((await maintenance.purgeDestroyed(STEP_ROWS, STEP_BYTES)) === 0) break;
          purged = true;
          await restAfter(started);
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
