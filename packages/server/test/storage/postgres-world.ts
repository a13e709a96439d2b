/** Databases on one PostgreSQL for the tests of a file, each with the tables of this program. */

import { afterAll, beforeAll, onTestFinished, test, expect } from "vitest";

import { startCluster, type Cluster } from "../../../../tests/postgres.js";
import type { Database } from "../../src/storage/database.js";
import { openPostgres } from "../../src/storage/postgres.js";

export interface PostgresWorld {
  /** Null where PostgreSQL cannot run. */
  cluster: Cluster | null;
  /** Makes a database and gives its URL. */
  create: () => Promise<string>;
  drop: (url: string) => Promise<void>;
  /** Opens so many storages on one database that is gone when the test ends. */
  openTogether: (count: number) => Promise<{ url: string; databases: Database[] }>;
}

/** Starts PostgreSQL before the tests of this file. Whoever awaits this registers a test that says so when it cannot run. */
export async function postgresWorld(): Promise<PostgresWorld> {
  const cluster = await startCluster().catch((error: unknown) => {
    failure = error;
    return null;
  });
  test("this machine runs PostgreSQL", (context) => {
    if (cluster === null && process.env.CI === undefined) context.skip(`it does not: ${String(failure)}`);
    expect(cluster, "PostgreSQL must run where CI is set").not.toBeNull();
  });
  let template = "";
  beforeAll(async () => {
    if (cluster === null) return;
    template = await cluster.createDatabase();
    await (await openPostgres(template)).close();
  });
  afterAll(() => cluster?.stop());
  const create = async () => (await cluster?.createDatabase(template)) ?? "";
  const drop = async (url: string) => {
    await cluster?.dropDatabase(url);
  };
  return {
    cluster,
    create,
    drop,
    async openTogether(count) {
      const url = await create();
      const databases = await Promise.all(Array.from({ length: count }, () => openPostgres(url)));
      onTestFinished(async () => {
        await Promise.all(databases.map((database) => database.close()));
        await drop(url);
      });
      return { url, databases };
    },
  };
}

let failure: unknown;
