/** Leaves only the heads of expired records, in the background and a few at a time; spec/http.md § Reading a record. */

import { judgeExpiring } from "./envelope/expiry.js";
import type { StoreKeys } from "./envelope/store-keys.js";
import { BUSY_MILLISECONDS, Lease } from "./lease.js";
import { describeError, type Logger } from "./logger.js";
import { restAfter } from "./pace.js";
import type { Purge } from "./purge.js";
import type { ExpiryCursor, MaintenanceStore } from "./storage/maintenance.js";

/** Per step: other requests come in between the steps, and on SQLite wait for one. */
const STEP = { maxRows: 128, maxBytes: 1_048_576 };
/** Of several servers on one database, one does the work. */
const LEASE = "expiry";

export interface ExpiryPurgeOptions {
  maintenance: MaintenanceStore;
  keys: StoreKeys;
  logger: Logger;
  /** Milliseconds since the epoch. */
  now: () => number;
  /** How often to look, in milliseconds. */
  interval: number;
}

/** From `start` on it looks at once and then at every interval; a look that is under way is not begun again. */
export function createExpiryPurge(options: ExpiryPurgeOptions): Purge {
  const lease = new Lease(options.maintenance, LEASE);
  let stopped = false;
  let work: Promise<void> | null = null;
  let timer: NodeJS.Timeout | undefined;
  const look = async () => {
    let rest = options.interval;
    try {
      if (!(await dropExpired(options, lease, () => stopped))) rest = Math.min(rest, BUSY_MILLISECONDS);
    } catch (error) {
      options.logger.error({ error: describeError(error) }, "purge of expired records failed");
    }
    work = null;
    if (!stopped) timer = setTimeout(start, rest).unref();
  };
  const start = () => {
    if (stopped) return;
    clearTimeout(timer);
    work ??= look();
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

/**
 * Each step is one commit, so wherever this ends every record is whole or a head. False when another server is at it, or may be.
 */
async function dropExpired(
  { maintenance, keys, logger, now }: ExpiryPurgeOptions,
  lease: Lease,
  isStopped: () => boolean,
): Promise<boolean> {
  let cursor: ExpiryCursor = null;
  let damaged = 0;
  let isHeld = false;
  const failures = new Map<string, unknown>();
  try {
    do {
      const started = performance.now();
      const { rows, next } = await maintenance.findExpiring(now(), cursor, STEP);
      if (rows.length === 0) break;
      isHeld = isHeld ? await lease.holds() : await lease.take();
      if (!isHeld) return false;
      const judged = await judgeExpiring(rows, keys, now());
      damaged += judged.damaged;
      for (const [store, error] of judged.failures) failures.set(store, error);
      if (judged.changes.length > 0) await maintenance.changeExpiring(judged.changes);
      cursor = next;
      await restAfter(started);
    } while (cursor !== null && !isStopped());
  } finally {
    await lease.release();
  }
  const [failure] = failures.values();
  if (failure !== undefined) {
    const context = { stores: failures.size, error: describeError(failure) };
    logger.error(context, "expired records of stores whose keys cannot be had were left as they are");
  }
  if (damaged > 0) logger.warn({ damaged }, "expired records that do not verify were left as they are");
  return true;
}
