/** One committed state of a database, to be read for as long as it takes while others write. No route can reach it. */

import type { StoreRef } from "./key-directory.js";
import type { RecordRow, RowTable, VersionRow } from "./portable.js";
import type { Schema } from "./schema.js";

/** A record and its kept versions, the oldest first, all but their bodies. */
export interface RecordSummary extends RecordRow {
  versions: readonly VersionRow[];
}

/** Every call throws StorageError when the database fails. Scans hold a bounded number of rows at a time. */
export interface Snapshot {
  /** Name of the last migration that made the tables. */
  readonly schema: string;
  /** All rows of a table, in the order of its key. */
  rows<Name extends RowTable>(table: Name): AsyncGenerator<Schema[Name]>;
  /** The records of a store in the order of their ids. What is not kept any more is left out. */
  records(project: string, store: string): AsyncGenerator<RecordSummary>;
  /** The body of a version that `records` named. */
  body(record: RecordRow, version: number): Promise<Uint8Array>;
  /**
   * The bodies of records that `records` gave one after the other, from `first` to `last`, of each those of its versions in
   * their order. All of them are in memory then: `size` of each version says how much that is.
   */
  bodies(first: RecordRow, last: RecordRow): Promise<Uint8Array[]>;
  /** The stores that have records, in the order of those, whether they are among the rows of `stores` or not. */
  storesWithRecords(): AsyncGenerator<StoreRef>;
  /** How many versions there are, those included that are of no record or not kept any more. */
  countVersions(): Promise<number>;
  close(): Promise<void>;
}
