/** Leaves only the heads of expired records, in the background and a few at a time; spec/http.md § Reading a record. */

import { randomUUID } from "node:crypto";

import { judgeExpiring } from "./envelope/expiry.js";
import type { StoreKeys } from "./envelope/store-keys.js";
import { describeError, type Logger } from "./logger.js";
import { restAfter } from "./pace.js";
import type { Purge } from "./purge.js";
import type { ExpiryCursor, MaintenanceStore } from "./storage/maintenance.js";

/** Per step: other requests come in between the steps, and on SQLite wait for one. */
const STEP = { maxRows: 128, maxBytes: 1_048_576 };
/** Of several servers on one database, one does the work. */
const LEASE = "expiry";
/** More than a step takes; so long the work rests after a server was killed in it. */
const LEASE_MILLISECONDS = 60_000;

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
  const owner = randomUUID();
  let stopped = false;
  let work: Promise<void> | null = null;
  let timer: NodeJS.Timeout | undefined;
  const look = async () => {
    try {
      await dropExpired(options, owner, () => stopped);
    } catch (error) {
      options.logger.error({ error: describeError(error) }, "purge of expired records failed");
    }
    work = null;
  };
  const start = () => {
    if (stopped) return;
    work ??= look();
    timer ??= setInterval(start, options.interval).unref();
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

/** Each step is one commit, so wherever this ends every record is whole or a head. */
async function dropExpired(
  { maintenance, keys, logger, now }: ExpiryPurgeOptions,
  owner: string,
  isStopped: () => boolean,
): Promise<void> {
  let cursor: ExpiryCursor = null;
  let damaged = 0;
  let holdsLease = false;
  do {
    const started = performance.now();
    const { rows, next } = await maintenance.findExpiring(now(), cursor, STEP);
    if (rows.length === 0) break;
    holdsLease = await maintenance.acquireLease(LEASE, owner, now(), LEASE_MILLISECONDS);
    if (!holdsLease) break;
    const judged = await judgeExpiring(rows, keys, now());
    damaged += judged.damaged;
    if (judged.changes.length > 0) await maintenance.changeExpiring(judged.changes);
    cursor = next;
    await restAfter(started);
  } while (cursor !== null && !isStopped());
  if (holdsLease) await maintenance.releaseLease(LEASE, owner);
  if (damaged > 0) logger.warn({ damaged }, "expired records that do not verify were left as they are");
}
