/** Puts the rows of a backup into an empty database; spec/envelope.md § Restoring. No route can reach it. */

import type { PortableRow } from "./portable.js";

/** The setting that says, as long as it is there, how far a restore has come. */
export const RESTORE_MARK = "restore";

/** A row to insert, or, of one that is there already, the column that refers to another row of its table. */
export interface RestoredRow {
  table: string;
  as: "row" | "reference";
  row: PortableRow;
}

/** All calls throw StorageError when the database fails. */
export interface Restoration {
  /** Whether no table that a backup holds has a row. */
  isEmpty(): Promise<boolean>;
  /**
   * Inserts the rows and notes `mark`, both in one commit: after a crash either all of it is there or nothing. Null ends
   * the restore: nothing is noted any more.
   */
  commit(rows: readonly RestoredRow[], mark: string | null): Promise<void>;
}
