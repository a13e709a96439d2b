/** The storage contract on a real PostgreSQL. */

import { openPostgres } from "../../src/storage/postgres.js";
import { storageContract } from "./contract.js";
import { postgresWorld } from "./postgres-world.js";

const { cluster, create, drop } = await postgresWorld();

if (cluster !== null) {
  storageContract("PostgreSQL", async () => {
    const url = await create();
    return { open: () => openPostgres(url), remove: () => drop(url) };
  });
}
