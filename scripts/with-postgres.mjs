/** Runs a command on a real PostgreSQL that lives as long as it does: its URL is in TACENDA_TEST_DATABASE_URL. */
import { spawnSync } from "node:child_process";

import { startCluster } from "../tests/postgres.ts";

const [command, ...args] = process.argv.slice(2);
const cluster = await startCluster();
let status;
try {
  const env = { ...process.env, TACENDA_TEST_DATABASE_URL: cluster.urlOf("postgres") };
  // The report that CI counts is of the tests without PostgreSQL; here the exit code says it.
  delete env.TACENDA_TEST_RESULTS;
  status = spawnSync(command, args, { stdio: "inherit", env }).status ?? 1;
} finally {
  await cluster.stop();
}
process.exitCode = status;
