/** Decides by the seal which versions have expired, and leaves the head of those; spec/envelope.md § Expired records. */

import { HEAD_BYTES, parseHead } from "@tacenda/protocol";

import type { ExpiringRow, ExpiryChange } from "../storage/maintenance.js";
import { dataKeyVersion, type OpenStore } from "./open-store.js";
import type { StoreKeys } from "./store-keys.js";

/**
 * What to do with rows that may have expired at `now` (milliseconds since the epoch). `damaged` counts those that do not
 * verify, of which nothing can be said, and `failures` has what came of stores whose keys cannot be had, by their names: the
 * others' rows are judged all the same. Rows of stores without keys, which are being destroyed, are left out.
 */
export async function judgeExpiring(
  rows: readonly ExpiringRow[],
  keys: StoreKeys,
  now: number,
): Promise<{ changes: ExpiryChange[]; damaged: number; failures: Map<string, unknown> }> {
  const changes: ExpiryChange[] = [];
  const failures = new Map<string, unknown>();
  let damaged = 0;
  for (const row of rows) {
    const name = `${row.project}/${row.store}`;
    if (failures.has(name)) continue;
    try {
      const store = await openFor(row, keys);
      if (store === null) continue;
      const change = judge(row, store, now);
      if (change === null) damaged++;
      else changes.push(change);
    } catch (error) {
      failures.set(name, error);
    }
  }
  return { changes, damaged, failures };
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
