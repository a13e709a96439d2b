/** Where a database is: what serving, restoring and looking at one need, whichever kind it is of; spec/http.md § Starting. */

import { StartupError } from "./startup-error.js";
import type { Database } from "./storage/database.js";
import { CLOSED_MARK, RESTORE_MARK, readClosedMark, readCopyMark, type HeldWrites } from "./storage/restoration.js";
import type { Snapshot } from "./storage/snapshot.js";

/** A database, with whatever keeps others from it. */
export interface HeldDatabase {
  database: Database;
  /** Closes the database, and lets others have it. */
  close: () => Promise<void>;
}

/** Keeps servers from a database that is not theirs for a while, as far as its kind lets it. */
export interface Hold {
  /** @throws {StartupError} when somebody uses the database whom the hold does not keep out. */
  refuseOthers(): Promise<void>;
  /** Sees to it that nothing is written until its `release`, or that its `check` tells. @throws {StorageError} */
  holdWrites(): Promise<HeldWrites>;
  /** Opens it for writing. Whoever calls this closes it, before `release`. */
  open(): Promise<Database>;
  release(): void;
}

export interface DatabasePlace {
  /** For a sentence to a person: "the database in /srv/data". It holds no password. */
  readonly name: string;
  /** Whether a database was ever made there, as far as that can be told without opening it; else null. */
  exists(): boolean | null;
  /** Whether other servers may use the database at the same time. */
  readonly isShared: boolean;
  /** Opens it for a server, making it or bringing it up to date as needed. */
  open(): Promise<HeldDatabase>;
  /** Opens it for a restore or as the target of a copy: one that is new, or of this version of the program. */
  openForRestore(): Promise<HeldDatabase>;
  /** Holds a database that is there. @throws {DataDirectoryLockedError} when a server is seen to run on it. */
  hold(): Hold;
  /** Opens it for a small change, whether servers run on it or not: one of this version. @throws {StartupError} when there is none. */
  openBeside(): Promise<HeldDatabase>;
  /** The database as it is now, whether a server runs on it or not. @throws {StartupError} when there is none. */
  openSnapshot(): Promise<Snapshot>;
}

/** Opens a place's database for a server. @throws {StartupError} as refuseUnfit does, and what `open` throws. */
export async function openForServing(place: DatabasePlace): Promise<HeldDatabase> {
  return await whole(place, await place.open());
}

/** Opens it for a small change beside the servers that may run on it. @throws as openForServing, for `openBeside` */
export async function openBesideServers(place: DatabasePlace): Promise<HeldDatabase> {
  return await whole(place, await place.openBeside());
}

async function whole(place: DatabasePlace, held: HeldDatabase): Promise<HeldDatabase> {
  try {
    await refuseUnfit(place, held.database);
    return held;
  } catch (error) {
    await held.close();
    throw error;
  }
}

/** @throws {StartupError} when the database is half restored or half copied, or was closed because another took its place. */
export async function refuseUnfit(place: DatabasePlace, { directory }: Database): Promise<void> {
  const mark = await directory.getSetting(RESTORE_MARK);
  if (mark !== null) throw halfDone(place, mark);
  const closed = readClosedMark(await directory.getSetting(CLOSED_MARK));
  if (closed === null) return;
  throw new StartupError(
    closed.run === undefined
      ? `${sentence(place)} was closed at ${closed.at}: it was copied to ${closed.to}. Serve that one: what is written to this one ` +
          "is missing there. To serve this one after all: tacenda-server reopen."
      : `${sentence(place)} was closed at ${closed.at}, while it is copied to ${closed.to}. If no copy runs any more, it was ` +
          "interrupted: run the same copy again, or serve this one after all: tacenda-server reopen.",
  );
}

/** A snapshot of a place's database. @throws {StartupError} when it is half restored or copied, and what `openSnapshot` throws. */
export async function openWholeSnapshot(place: DatabasePlace): Promise<Snapshot> {
  const snapshot = await place.openSnapshot();
  try {
    for await (const { name, value } of snapshot.rows("settings")) {
      if (name === RESTORE_MARK) throw halfDone(place, value);
    }
    return snapshot;
  } catch (error) {
    await snapshot.close();
    throw error;
  }
}

function halfDone(place: DatabasePlace, mark: string): StartupError {
  return new StartupError(
    readCopyMark(mark) === null
      ? `${sentence(place)} is half restored. Run the same restore again: it goes on where it stopped.`
      : `${sentence(place)} is half copied, or was not found to be a true copy. Run the same copy again: it goes on where it stopped.`,
  );
}

/** The name of a place at the begin of a sentence. */
function sentence({ name }: DatabasePlace): string {
  return `${name[0]?.toUpperCase() ?? ""}${name.slice(1)}`;
}
