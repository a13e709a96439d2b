/**
 * Deletes in the background, a little at a time, the rows of destroyed stores and of versions that are not kept any more;
 * spec/http.md § Stores, § Writing a record.
 */

import { BUSY_MILLISECONDS, Lease } from "./lease.js";
import { describeError, type Logger } from "./logger.js";
import { restAfter } from "./pace.js";
import type { MaintenanceStore } from "./storage/maintenance.js";

/**
 * Per step: other requests come in between the steps, and on SQLite wait for one. Deleting costs as much as writing, for what goes
 * is overwritten.
 */
const STEP_ROWS = 128;
const STEP_BYTES = 1_048_576;
/** Of several servers on one database, one does the work. */
const LEASE = "purge";
/** How often to look for what no call has announced, or a failure has left, in milliseconds. */
const INTERVAL = 60_000;

export interface Purge {
  /** Begins a purge, or has the one under way look again; from the first call on it looks every minute besides. */
  start(): void;
  /** Stops after the step under way. */
  stop(): Promise<void>;
}

export function createPurge(maintenance: MaintenanceStore, logger: Logger): Purge {
  const lease = new Lease(maintenance, LEASE);
  let stopped = false;
  const isStopped = () => stopped;
  let wanted = false;
  let work: Promise<void> | null = null;
  let timer: NodeJS.Timeout | undefined;
  const untilDue = async () => Math.min((await maintenance.purgeDue()) ?? INTERVAL, INTERVAL);
  /** Purges what there is. Milliseconds until the next look. */
  const look = async (): Promise<number> => {
    const wait = await untilDue();
    if (wait > 0 || isStopped()) return wait;
    if (!(await lease.take())) return BUSY_MILLISECONDS;
    try {
      for (let started = performance.now(); !isStopped() && (await lease.holds()); started = performance.now()) {
        if ((await maintenance.purgeDestroyed(STEP_ROWS, STEP_BYTES)) === 0) break;
        await restAfter(started);
      }
      await maintenance.scrub();
    } finally {
      await lease.release();
    }
    return isStopped() ? INTERVAL : Math.max(await untilDue(), BUSY_MILLISECONDS);
  };
  const run = async () => {
    clearTimeout(timer);
    let rest = INTERVAL;
    while (wanted && !stopped) {
      wanted = false;
      rest = await look().catch((error: unknown) => {
        logger.error({ error: describeError(error) }, "purge failed");
        return INTERVAL;
      });
    }
    work = null;
    if (!stopped) timer = setTimeout(start, rest).unref();
  };
  const start = () => {
    if (stopped) return;
    wanted = true;
    work ??= run();
  };
  return {
    start,
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await work;
    },
  };
}
