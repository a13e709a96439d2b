/** Background work on opaque rows, in bounded steps. No route can reach this interface. */

import type { StoreRef } from "./key-directory.js";
import type { Leases } from "./leases.js";

/** A row as a scan meets it. */
export interface ScannedRow {
  project: string;
  store: string;
  /** Blinded record id, 32 bytes. */
  id: Uint8Array;
  version: number;
  body: Uint8Array;
}

/** Where a scan goes on; null when it is at its end. */
export type ScanCursor = Omit<ScannedRow, "body"> | null;

/** A version that may have expired; only its seal knows. */
export interface ExpiringRow extends ScannedRow {
  /** The hint it was written with, milliseconds since the epoch; never 0. */
  expiresAt: number;
}

/** Where a look for expired versions goes on; null when it is at its end. */
export type ExpiryCursor = Omit<ExpiringRow, "body"> | null;

/** What becomes of a version that may have expired. */
export interface ExpiryChange extends Omit<ExpiringRow, "body"> {
  /** The hint from now on: what the seal says, or 0 when only the head is left. */
  hint: number;
  /** What takes the place of the body. Absent when the version has not expired. */
  head?: {
    body: Uint8Array;
    /** Data-key version it is encrypted under. */
    keyVersion: number;
  };
}

/** A place among the versions of a store. */
export interface VersionPlace {
  /** Blinded record id, 32 bytes. */
  id: Uint8Array;
  version: number;
}

/** A body under a data key that is to be given up. */
export interface OutdatedBody extends VersionPlace {
  body: Uint8Array;
}

/** What takes the place of a body; the record and its version stay. */
export interface BodyChange extends VersionPlace {
  /** The body as it was found. */
  before: Uint8Array;
  body: Uint8Array;
}

/** How far a look for outdated bodies goes at most. */
export interface OutdatedBounds {
  /** Versions looked at. */
  maxRows: number;
  /** Bodies found. */
  maxBodies: number;
  /** No more versions are looked at once their bodies make up as much. */
  maxBytes: number;
}

export interface MaintenanceStore extends Leases {
  /** Up to `limit` rows in key order, after `cursor`; rows that are to be purged are among them until they are. */
  scan(cursor: ScanCursor, limit: number): Promise<{ rows: ScannedRow[]; next: ScanCursor }>;
  /**
   * Milliseconds until there is something for purgeDestroyed, 0 when there is now, null when nothing waits. Where several servers
   * use the database, the rows of a destroyed store stay until each of them has noticed: with stale keys and no rows a server would
   * say of a record that it was never there.
   */
  purgeDue(): Promise<number | null>;
  /**
   * Deletes rows of destroyed stores, and of versions that are not kept any more: up to `maxRows`, and no more once their
   * bodies make up `maxBytes`. Returns how many went. 0 means there are none left for now.
   */
  purgeDestroyed(maxRows: number, maxBytes: number): Promise<number>;
  /** Overwrites what deletions have left in the database's own log, as far as nobody reads from it now. */
  scrub(): Promise<void>;
  /**
   * Versions whose hint is `now` or earlier, in the order of their hints, after `cursor`: up to `maxRows`, and no more once
   * their bodies make up `maxBytes`.
   */
  findExpiring(
    now: number,
    cursor: ExpiryCursor,
    bounds: { maxRows: number; maxBytes: number },
  ): Promise<{ rows: ExpiringRow[]; next: ExpiryCursor }>;
  /**
   * Makes the changes in one commit. Where a head is left of a record's current version, no earlier one is kept from then
   * on. A change is left out when the version is gone or has another hint than the change says, or its data-key version
   * does not accept writes (any more).
   */
  changeExpiring(changes: readonly ExpiryChange[]): Promise<void>;
  /**
   * Looks at versions of a store, in key order after `place`, for bodies that begin with none of `upToDate`. `next` is where to
   * go on, null at the end. Rows that are to be purged are among them until they are. What a row says of its data key beside the
   * body is not asked: it may be wrong, and the key be given up that the body is under.
   */
  findOutdatedBodies(
    ref: StoreRef,
    upToDate: readonly Uint8Array[],
    place: VersionPlace,
    bounds: OutdatedBounds,
  ): Promise<{ rows: OutdatedBody[]; next: VersionPlace | null }>;
  /**
   * Puts bodies encrypted under data key `keyVersion` in the place of others, in one commit. A change is left out when the
   * body is another than it was found, or gone. Gives the number of those made; null, and nothing changes, when the data key
   * does not accept writes (any more).
   */
  replaceBodies(ref: StoreRef, keyVersion: number, changes: readonly BodyChange[]): Promise<number | null>;
}
