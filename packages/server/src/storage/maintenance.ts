/** Background work on opaque rows, in bounded steps. No route can reach this interface. */

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

export interface MaintenanceStore {
  /** Up to `limit` rows in key order, after `cursor`; rows that are to be purged are among them until they are. */
  scan(cursor: ScanCursor, limit: number): Promise<{ rows: ScannedRow[]; next: ScanCursor }>;
  /**
   * Deletes rows of destroyed stores, and of versions that are not kept any more: up to `maxRows`, and no more once their
   * bodies make up `maxBytes`. Returns how many went. 0 means there are none left.
   */
  purgeDestroyed(maxRows: number, maxBytes: number): Promise<number>;
  /**
   * Takes or renews the lease `name` for `owner` until `now + duration` (milliseconds). False when another owner holds it.
   */
  acquireLease(name: string, owner: string, now: number, duration: number): Promise<boolean>;
  releaseLease(name: string, owner: string): Promise<void>;
}
