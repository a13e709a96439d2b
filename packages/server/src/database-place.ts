/** Where a database is: what serving, restoring and looking at one need, whichever kind it is of; spec/http.md § Starting. */

import { StartupError } from "./startup-error.js";
import type { Database } from "./storage/database.js";
import { RESTORE_MARK } from "./storage/restoration.js";
import type { Snapshot } from "./storage/snapshot.js";

/** A database, with whatever keeps others from it. */
export interface HeldDatabase {
  database: Database;
  /** Closes the database, and lets others have it. */
  close: () => Promise<void>;
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
  /** Opens it for a restore: one that is new, or of this version of the program. */
  openForRestore(): Promise<HeldDatabase>;
  /** Opens it for a small change, whether servers run on it or not: one of this version. @throws {StartupError} when there is none. */
  openBeside(): Promise<HeldDatabase>;
  /** The database as it is now, whether a server runs on it or not. @throws {StartupError} when there is none. */
  openSnapshot(): Promise<Snapshot>;
}

/** Opens a place's database for a server. @throws {StartupError} when it is half restored, and what `open` throws. */
export async function openForServing(place: DatabasePlace): Promise<HeldDatabase> {
  return await whole(place, await place.open());
}

/** Opens it for a small change beside the servers that may run on it. @throws as openForServing, for `openBeside` */
export async function openBesideServers(place: DatabasePlace): Promise<HeldDatabase> {
  return await whole(place, await place.openBeside());
}

async function whole(place: DatabasePlace, held: HeldDatabase): Promise<HeldDatabase> {
  try {
    await refuseHalfRestored(place, held.database);
    return held;
  } catch (error) {
    await held.close();
    throw error;
  }
}

/** @throws {StartupError} */
export async function refuseHalfRestored(place: DatabasePlace, { directory }: Database): Promise<void> {
  if ((await directory.getSetting(RESTORE_MARK)) !== null) throw halfRestored(place);
}

/** A snapshot of a place's database. @throws {StartupError} when it is half restored, and what `openSnapshot` throws. */
export async function openWholeSnapshot(place: DatabasePlace): Promise<Snapshot> {
  const snapshot = await place.openSnapshot();
  try {
    for await (const { name } of snapshot.rows("settings")) {
      if (name === RESTORE_MARK) throw halfRestored(place);
    }
    return snapshot;
  } catch (error) {
    await snapshot.close();
    throw error;
  }
}

function halfRestored({ name }: DatabasePlace): StartupError {
  const sentence = `${name[0]?.toUpperCase() ?? ""}${name.slice(1)}`;
  return new StartupError(`${sentence} is half restored. Run the same restore again: it goes on where it stopped.`);
}
