/** The databases that trials run on: the embedded one, and a real PostgreSQL that a test file starts when it first needs it. */

import { join } from "node:path";

import { afterAll, onTestFinished } from "vitest";

import { startCluster, type Cluster } from "../postgres.ts";
import { freshFolder } from "../server-process.ts";

export const DATABASES = ["SQLite", "PostgreSQL"] as const;
export type DatabaseName = (typeof DATABASES)[number];

/** Where one server, or on PostgreSQL several, keep what they have. */
export interface Place {
  dataDir: string;
  /** For `spawnServer` and `runCommand`. */
  env: Readonly<Record<string, string>>;
  databaseUrl: string | null;
}

let cluster: Promise<Cluster> | undefined;

/** One for all tests of a file. */
export function sharedCluster(): Promise<Cluster> {
  return (cluster ??= startCluster());
}

afterAll(async () => {
  await (await cluster)?.stop();
});

/** A fresh place, removed when the test ends. */
export async function freshPlace(database: DatabaseName): Promise<Place> {
  const dataDir = join(await freshFolder(), "data");
  if (database === "SQLite") return { dataDir, env: {}, databaseUrl: null };
  const postgres = await sharedCluster();
  const databaseUrl = await postgres.createDatabase();
  onTestFinished(() => postgres.dropDatabase(databaseUrl));
  return { dataDir, env: { TACENDA_DATABASE_URL: databaseUrl }, databaseUrl };
}
