/** Decides by the seal which versions have expired, and leaves the head of those; spec/envelope.md § Expired records. */

import { HEAD_BYTES, parseHead } from "@tacenda/protocol";

import type { ExpiringRow, ExpiryChange } from "../storage/maintenance.js";
import { dataKeyVersion, type OpenStore } from "./open-store.js";
import type { StoreKeys } from "./store-keys.js";

/**
 * What to do with rows that may have expired at `now` (milliseconds since the epoch). `damaged` counts those that do not
 * verify, of which nothing can be said; rows of stores without keys, which are being destroyed, are left out.
 *
 * @throws {KeyProviderError | StorageError} when keys cannot be had.
 */
export async function judgeExpiring(
  rows: readonly ExpiringRow[],
  keys: StoreKeys,
  now: number,
): Promise<{ changes: ExpiryChange[]; damaged: number }> {
  const changes: ExpiryChange[] = [];
  let damaged = 0;
  for (const row of rows) {
    const store = await openFor(row, keys);
    if (store === null) continue;
    const change = judge(row, store, now);
    if (change === null) damaged++;
    else changes.push(change);
  }
  return { changes, damaged };
}

/** The store of a row, with the data key that the row names, if there is one. */
async function openFor({ project, store: name, body }: ExpiringRow, keys: StoreKeys): Promise<OpenStore | null> {
  const store = await keys.open(project, name);
  if (store === null || store.knowsDataKey(dataKeyVersion(body) ?? store.current.version)) return store;
  // Another server has begun to write under a newer one.
  return await keys.reload(project, name, store);
}

function judge({ body, ...row }: ExpiringRow, store: OpenStore, now: number): ExpiryChange | null {
  const record = store.open(row.id, row.version, body);
  if (record === null) return null;
  const head = parseHead(record);
  if (typeof head === "string") return null;
  if (head.expiresAt === 0 || head.expiresAt > now) return { ...row, hint: head.expiresAt };
  const left = store.seal(row.id, row.version, record.subarray(0, HEAD_BYTES));
  return { ...row, hint: 0, head: { body: left, keyVersion: store.current.version } };
}
