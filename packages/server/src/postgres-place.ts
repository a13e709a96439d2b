/** A PostgreSQL database, which several servers may use at the same time; docs/postgresql.md. */

import type { DatabasePlace, HeldDatabase } from "./database-place.js";
import { StartupError } from "./startup-error.js";
import { OlderDatabaseError } from "./storage/database.js";
import { lockPostgresForRestore, openPostgres, openPostgresSnapshot } from "./storage/postgres.js";
import { describePostgres, parsePostgresUrl } from "./storage/postgres-url.js";
import type { Snapshot } from "./storage/snapshot.js";
import { takeTurnToStart } from "./turn-to-start.js";

/** @throws {InvalidOptionError} when the URL is not valid. */
export function postgresPlace(url: string, connections: number | undefined): DatabasePlace {
  const name = describePostgres(parsePostgresUrl(url));
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
    openSnapshot: () => openSnapshot(url, name),
  };
}

async function openSnapshot(url: string, name: string): Promise<Snapshot> {
  try {
    return await openPostgresSnapshot(url);
  } catch (error) {
    if (!(error instanceof OlderDatabaseError && error.isNew)) throw error;
    throw new StartupError(`There is nothing of Tacenda in ${name}: name a server's database with --database-url.`);
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
      const turn = await takeTurnToStart(database.maintenance);
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
