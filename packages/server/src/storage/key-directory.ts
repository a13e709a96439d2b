/** What key administration keeps: whose wraps are under which master key, retired master keys, re-encryptions. */

import type { LeaseRef } from "./leases.js";
import type { MasterRef, WrappedKey } from "./store-key.js";

/** Which store. */
export interface StoreRef {
  project: string;
  store: string;
}

/** A wrapped key and its store. */
export interface StoreKey extends StoreRef, WrappedKey {}

/** Where a look over wrapped keys goes on; null at its begin. */
export type StoreKeyCursor = Pick<StoreKey, "project" | "store" | "purpose" | "version"> | null;

/** What takes the place of a wrap. */
export interface WrapChange {
  /** The key as it was found. */
  key: StoreKey;
  wrap: MasterRef & { wrapped: Uint8Array };
}

/** A re-encryption that was asked for: a pass over a store, until nothing of it is under a data key below the target. */
export interface Reencryption extends StoreRef {
  /** Random; another one whenever it is begun anew. */
  run: string;
  /** Bodies under data keys below this version are outdated. */
  target: number;
  /** How far the pass has come. Before all: no bytes, and 0. */
  id: Uint8Array;
  version: number;
  /** Outdated bodies that this pass has met and that do not verify. */
  damaged: number;
  /** Milliseconds since the epoch. */
  begunAt: number;
  /** When it ended because only damaged bodies are left; null while it goes on. Without damage it leaves nothing. */
  endedAt: number | null;
}

/** All calls are durable when they resolve, and throw StorageError as RecordStore does. */
export interface KeyDirectory {
  /** Every wrapped key of a store, by purpose and version; empty when there is no such store. */
  wrappedKeys(project: string, store: string): Promise<WrappedKey[]>;
  /** How many wraps each master-key version has. Those that are in nobody's wraps are not there. */
  countWraps(): Promise<(MasterRef & { wraps: number })[]>;
  /** Up to `limit` stores with a wrap under the version. */
  storesUnder(master: MasterRef, limit: number): Promise<StoreRef[]>;
  /** Up to `limit` keys whose wraps are not under `master`, in key order after `cursor`. */
  findOutdated(master: MasterRef, cursor: StoreKeyCursor, limit: number): Promise<StoreKey[]>;
  /**
   * Replaces wraps, in one commit. A change is left out when the key has another wrap than it was found with, or is gone.
   * Gives the number of those made; null, and nothing changes, when a new wrap's master key has been retired, or the lease under
   * which they were found is not held any more: another master key may be current by then, and this one be given up.
   */
  replaceWraps(changes: readonly WrapChange[], lease: LeaseRef): Promise<number | null>;

  /**
   * From this commit on no wrap is written under the version. `in_use`, and nothing changes, when there is one; `before` when
   * it was retired already.
   */
  retireMaster(master: MasterRef, now: number): Promise<"retired" | "before" | "in_use">;
  /** Takes `retireMaster` back. */
  reinstateMaster(master: MasterRef): Promise<void>;
  retiredMasters(): Promise<(MasterRef & { retiredAt: number })[]>;

  /**
   * Adds a store's next data key and retires the others, in one commit: whatever is written afterwards is under the new
   * one. `conflict` when `key` is not the next version, or the store is gone.
   */
  addDataKey(ref: StoreRef, key: WrappedKey): Promise<"added" | "conflict" | "stale_key">;
  /** Deletes a retired data key; the caller has seen that nothing is under it. False when it is not retired, or not there. */
  deleteDataKey(ref: StoreRef, version: number): Promise<boolean>;
  /** Up to `limit` stores whose newest data key was made before `time` (milliseconds since the epoch). */
  storesWithDataKeyBefore(time: number, limit: number): Promise<StoreRef[]>;

  /** Notes that a store is to be re-encrypted to its newest data key, from its begin. False when there is no such store. */
  beginReencryption(ref: StoreRef, now: number): Promise<boolean>;
  reencryptions(): Promise<Reencryption[]>;
  reencryption(ref: StoreRef): Promise<Reencryption | null>;
  /** Keeps how far it has come, if it was not begun anew meanwhile. */
  saveReencryption(progress: Reencryption): Promise<void>;
  /** Forgets it, for it has come to its end, if it was not begun anew meanwhile. */
  endReencryption(progress: Reencryption): Promise<void>;
}
