/** A PostgreSQL database, which several servers may use at the same time; docs/postgresql.md. */

import { setTimeout as sleep } from "node:timers/promises";

import { counted } from "./counted.js";
import type { DatabasePlace, HeldDatabase } from "./database-place.js";
import { StartupError } from "./startup-error.js";
import { OlderDatabaseError } from "./storage/database.js";
import {
  holdPostgresWrites,
  listOthers,
  lockPostgresForRestore,
  openPostgres,
  openPostgresSnapshot,
} from "./storage/postgres.js";
import { describePostgres, parsePostgresUrl } from "./storage/postgres-url.js";
import type { Snapshot } from "./storage/snapshot.js";
import { takeTurnToStart } from "./turn-to-start.js";

/** How long others have to close their connections, in milliseconds. */
const DISCONNECT_MILLISECONDS = 3_000;
const POLL_MILLISECONDS = 100;
/** Who takes its turn: one for all, of which the lock lets one at a time work, so that none waits for one that was killed. */
const RESTORE = "restore";

/** `named`: what the URL is called in errors. @throws {InvalidOptionError} when the URL is not valid. */
export function postgresPlace(url: string, connections?: number, named?: string): DatabasePlace {
  const name = describePostgres(parsePostgresUrl(url, named));
  return {
    name,
    isShared: true,
    exists: () => null,
    async open() {
      const database = await openPostgres(url, connections);
      return { database, close: () => database.close() };
    },
    openForRestore: () => openForRestore(url, connections),
    async openBeside() {
      // Bringing it up to date would pull the tables from under older servers.
      await (await openSnapshot(url, name)).close();
      const database = await openPostgres(url, connections);
      return { database, close: () => database.close() };
    },
    hold: () => ({
      refuseOthers: () => refuseOthers(url, name),
      holdWrites: () => holdPostgresWrites(url),
      open: () => openPostgres(url, connections),
      release() {
        // Nothing was taken: servers need no lock on such a database.
      },
    }),
    openSnapshot: () => openSnapshot(url, name),
  };
}

/** Of a server that was just stopped there may still be connections, so some time is given. @throws {StartupError} */
async function refuseOthers(url: string, name: string): Promise<void> {
  const deadline = Date.now() + DISCONNECT_MILLISECONDS;
  for (;;) {
    const others = await listOthers(url);
    if (others.length === 0) return;
    if (Date.now() > deadline) {
      const programs = [...new Set(others)]
        .map((program) => program ?? "one without a name, or of another user")
        .join(", ");
      throw new StartupError(
        `${counted(others.length, "other connection")} ${others.length === 1 ? "is" : "are"} open to ${name}: ${programs}. What servers write to it from now on would be ` +
          "lost: stop them all, and close other programs or a pooler in between. If none of these is a server: --ignore-connections.",
      );
    }
    await sleep(POLL_MILLISECONDS);
  }
}

async function openSnapshot(url: string, name: string): Promise<Snapshot> {
  try {
    return await openPostgresSnapshot(url);
  } catch (error) {
    if (!(error instanceof OlderDatabaseError && error.isNew)) throw error;
    throw new StartupError(`There is nothing of Tacenda in ${name}: name the database of a server.`);
  }
}

async function openForRestore(url: string, connections: number | undefined): Promise<HeldDatabase> {
  const lock = await lockPostgresForRestore(url);
  try {
    // An older database holds something: bringing it up to date would change it before it is refused.
    await refuseOlder(url);
    const database = await openPostgres(url, connections);
    try {
      // A server that is about to start on the empty database finds afterwards that it is half restored.
      const turn = await takeTurnToStart(database.maintenance, RESTORE);
      return {
        database,
        async close() {
          await turn.end();
          await database.close();
          await lock.release();
        },
      };
    } catch (error) {
      await database.close();
      throw error;
    }
  } catch (error) {
    await lock.release();
    throw error;
  }
}

async function refuseOlder(url: string): Promise<void> {
  try {
    await (await openPostgresSnapshot(url)).close();
  } catch (error) {
    if (!(error instanceof OlderDatabaseError && error.isNew)) throw error;
  }
}
