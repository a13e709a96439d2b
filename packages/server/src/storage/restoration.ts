/** Puts the rows of a backup or another database into an empty one; spec/envelope.md § Restoring, § Copying. No route can reach it. */

import type { PortableRow } from "./portable.js";

/** The setting that says, as long as it is there, how far a restore has come, or that a copy is not finished. */
export const RESTORE_MARK = "restore";
/** The setting of a database that was copied and closed: which database took its place, and when. */
export const CLOSED_MARK = "closed";

/** What a copy notes as `RESTORE_MARK`. */
export interface CopyMark {
  /** What tells the source from other databases. */
  copyOf: number;
}

/** What is noted as `CLOSED_MARK`. */
export interface ClosedMark {
  /** The database that took its place, in words. */
  to: string;
  /** RFC 3339. */
  at: string;
}

/** Null when there is none. */
export function readClosedMark(text: string | null): ClosedMark | null {
  return text === null ? null : (JSON.parse(text) as ClosedMark);
}

/** Null when the mark is a restore's. */
export function readCopyMark(text: string): CopyMark | null {
  const mark = JSON.parse(text) as Partial<CopyMark>;
  return typeof mark.copyOf === "number" ? { copyOf: mark.copyOf } : null;
}

/**
 * What to do in a table: insert the row; or put it in the place of whatever is there; or set the column that refers to another
 * row of the table, of a row that is there; or delete the rows of a record.
 */
export interface RestoredRow {
  table: string;
  as: "row" | "replacement" | "reference" | "gone";
  row: PortableRow;
}

/** All calls throw StorageError when the database fails. */
export interface Restoration {
  /** Whether no table that a backup holds has a row. */
  isEmpty(): Promise<boolean>;
  /**
   * Notes `mark`, deletes and inserts the rows in their order, and then sets the references, all in one commit: after a crash
   * either all of it is there or nothing. It waits for a commit that a killed process has under way. Null ends the restore:
   * nothing is noted any more.
   */
  commit(rows: readonly RestoredRow[], mark: string | null): Promise<void>;
  /** Deletes all rows but those of records and the mark. */
  clearRows(): Promise<void>;
}
