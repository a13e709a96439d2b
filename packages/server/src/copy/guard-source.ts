/** Keeps writes from the source of a copy from before the comparison to the end; spec/envelope.md § Copying. */

import { randomUUID } from "node:crypto";

import type { DatabasePlace, Hold } from "../database-place.js";
import type { Database } from "../storage/database.js";
import { CLOSED_MARK, readClosedMark, type ClosedMark } from "../storage/restoration.js";
import { CopyError } from "./errors.js";

/** From its begin on nothing is written to the source, or `settle` tells. */
export interface SourceGuard {
  /** The copy is true, and about to be served. @throws {CopyError | StorageError} when something may have been written. */
  settle(): Promise<void>;
  /** There is no true copy: servers may have the source again. Null: somebody else has opened or closed it meanwhile. */
  undo(): Promise<"as it was" | "opened" | null>;
  release(): Promise<void>;
}

/** As long as the copy takes. @throws {StorageError} */
export async function holdSource(hold: Hold): Promise<SourceGuard> {
  const writes = await hold.holdWrites();
  return { settle: () => writes.check(), undo: () => Promise.resolve("as it was"), release: () => writes.release() };
}

/**
 * For good: `settle` makes of the mark of an unfinished copy that of a finished one. If this process is killed the source stays
 * closed, and the next run takes it over. A source that was closed for a finished copy stays that in any case.
 * @throws {StorageError}
 */
export async function closeSource(source: DatabasePlace, target: DatabasePlace, hold: Hold): Promise<SourceGuard> {
  const mark: ClosedMark = { to: target.name, at: new Date().toISOString() };
  const unfinished = JSON.stringify({ ...mark, run: randomUUID() } satisfies ClosedMark);
  const replace = (before: string | null, after: string | null) =>
    withDatabase(hold, ({ restoration }) => restoration.replaceClosedMark(before, after));
  const own = await withDatabase(hold, async ({ directory, restoration }) => {
    const before = await directory.getSetting(CLOSED_MARK);
    const earlier = readClosedMark(before);
    const after = earlier === null || earlier.run !== undefined ? unfinished : before;
    if (!(await restoration.replaceClosedMark(before, after))) throw reopened(source);
    return after;
  });
  return {
    async settle() {
      if (!(await replace(own, JSON.stringify(mark)))) throw reopened(source);
    },
    async undo() {
      if (own !== unfinished) return "as it was";
      return (await replace(own, null)) ? "opened" : null;
    },
    release: () => Promise.resolve(),
  };
}

function reopened({ name }: DatabasePlace): CopyError {
  return new CopyError(
    `While it was copied, ${name} was opened again, or another copy of it began: what was written since may be missing in the ` +
      "copy, and no server serves that. Run the same command again.",
  );
}

async function withDatabase<T>(hold: Hold, work: (database: Database) => Promise<T>): Promise<T> {
  const database = await hold.open();
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}
