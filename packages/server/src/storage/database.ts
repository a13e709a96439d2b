/** What a database gives the server: four interfaces over the same rows, readiness, and an orderly end. */

import type { Directory } from "./directory.js";
import type { KeyDirectory } from "./key-directory.js";
import type { MaintenanceStore } from "./maintenance.js";
import type { RecordStore } from "./record-store.js";

export interface Database {
  records: RecordStore;
  directory: Directory;
  keys: KeyDirectory;
  maintenance: MaintenanceStore;
  /** Resolves when the database answers (readiness). @throws {StorageError} */
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
