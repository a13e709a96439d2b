/** The storage contract on a real PostgreSQL. */

import { afterAll, beforeAll } from "vitest";

import { startCluster, type Cluster } from "../../../../tests/postgres.js";
import { openPostgres } from "../../src/storage/postgres.js";
import { storageContract } from "./contract.js";

let cluster: Cluster;
beforeAll(async () => {
  cluster = await startCluster();
});
afterAll(() => cluster.stop());

storageContract("PostgreSQL", async () => {
  const url = await cluster.createDatabase();
  return { open: () => openPostgres(url), remove: () => cluster.dropDatabase(url) };
});
