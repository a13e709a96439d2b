/** What a database gives the server: interfaces over the same rows, readiness, and an orderly end. */

import type { Directory } from "./directory.js";
import type { KeyDirectory } from "./key-directory.js";
import type { MaintenanceStore } from "./maintenance.js";
import type { QuotaStore } from "./quota-store.js";
import type { RecordStore } from "./record-store.js";
import type { Restoration } from "./restoration.js";

/** Bytes on the disk, of the database as a whole. */
export interface DiskUse {
  database: number;
  /** Of these, what is not in use, and is used before the file grows. */
  free: number;
  /** The write-ahead log, a file of its own. */
  log: number;
}

export interface Database {
  records: RecordStore;
  directory: Directory;
  keys: KeyDirectory;
  maintenance: MaintenanceStore;
  restoration: Restoration;
  quotas: QuotaStore;
  /** What the whole of it takes on the disk; null where another system keeps it, which has metrics of its own. @throws {StorageError} */
  diskUse(): Promise<DiskUse | null>;
  /** Resolves when the database answers, and is not closed (readiness). @throws {StorageError} */
  check(): Promise<void>;
  /** Waits for the writes under way, then closes. Calls made afterwards throw StorageError. */
  close(): Promise<void>;
}

/** The database was written by a newer program, which may keep things that this one would break. */
export class NewerDatabaseError extends Error {
  override name = "NewerDatabaseError";
  constructor() {
    super("This database was made by a newer version of Tacenda. Start that version or a newer one.");
  }
}

/** The database was made by an older program, and whoever only reads it must not change it. */
export class OlderDatabaseError extends Error {
  override name = "OlderDatabaseError";
  /** It has no tables yet. */
  readonly isNew: boolean;
  constructor(isNew: boolean) {
    super(
      "This database was made by an older version of Tacenda. Start this version of the server on it once, which brings it " +
        "up to date, or use the version that serves it.",
    );
    this.isNew = isNew;
  }
}
