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
  /** Another one of each run, so that of two at work one finds that it is not its turn. */
  run: string;
}

/** What is noted as `CLOSED_MARK`. */
export interface ClosedMark {
  /** The database that took its place, in words. */
  to: string;
  /** RFC 3339. */
  at: string;
  /** As long as that copy is not finished: another one of each run. */
  run?: string;
}

/** What a server that runs on a closed database has to say to whoever needs it. */
export const CLOSED =
  "The database of this server was closed: it was copied to another place, or is being copied. Nothing was written.";

/** Keeps writes from a database while it is copied, as far as its kind lets it. */
export interface HeldWrites {
  /** @throws {StorageError} when something may have been written since. */
  check(): Promise<void>;
  release(): Promise<void>;
}

/** Null when there is none. */
export function readClosedMark(text: string | null): ClosedMark | null {
  return text === null ? null : (JSON.parse(text) as ClosedMark);
}

/** Null when the mark is a restore's. */
export function readCopyMark(text: string): CopyMark | null {
  const { copyOf, run } = JSON.parse(text) as Partial<CopyMark>;
  return copyOf !== undefined && run !== undefined ? { copyOf, run } : null;
}

/** A change of a table. */
export interface RestoredRow {
  table: string;
  /**
   * `row`: insert it. `reference`: set the column that refers to another row of the table, of a row that is there. `gone`: delete
   * all that the table has of a record. `emptied`: delete all that it has, but the mark.
   */
  as: "row" | "reference" | "gone" | "emptied";
  row: PortableRow;
}

/** All calls throw StorageError when the database fails. */
export interface Restoration {
  /** Whether no table that a backup or a copy holds has a row. */
  isEmpty(): Promise<boolean>;
  /**
   * Puts the mark `after` in the place of `before`, makes the changes in their order, and then sets the references, all in one
   * commit: after a crash either all of it is there or nothing. Null is no mark. False, and nothing changes, when the mark is
   * not `before` (any more): somebody else has begun, or what a killed process had under way has come first.
   */
  commit(rows: readonly RestoredRow[], before: string | null, after: string | null): Promise<boolean>;
  /**
   * Puts the closed mark `after` in the place of `before`; null is no mark. With a mark the database takes no writes any more, and
   * those that were under way are over, as far as its kind can see to that itself (PostgreSQL; SQLite's has its data directory's
   * lock). False, and nothing changes, when the mark is not `before` (any more).
   */
  replaceClosedMark(before: string | null, after: string | null): Promise<boolean>;
}
