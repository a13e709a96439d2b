/** The process of the tests' own PostgreSQL: ended in every way there is, and started again. */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import type { Cluster } from "../postgres.ts";

/** Milliseconds that ending it or starting it may take, recovery and a busy machine included. */
const PATIENCE = 60_000;

/** SIGINT is PostgreSQL's fast shutdown, SIGQUIT its immediate one; after SIGKILL its children notice and end. */
type EndingSignal = "SIGINT" | "SIGQUIT" | "SIGKILL";

/** Process id of the postmaster. @throws {Error} when the cluster is not ours. */
export async function postmasterOf(cluster: Cluster): Promise<number> {
  if (cluster.own === null) throw new Error("This needs a PostgreSQL of its own: unset TACENDA_TEST_DATABASE_URL.");
  const [pid] = (await readFile(join(cluster.own.dataDir, "postmaster.pid"), "utf8")).split("\n");
  return Number(pid);
}

/** Ends it, and starts it again `pause` milliseconds later. Resolves when it takes connections. */
export async function restart(cluster: Cluster, how: EndingSignal, pause: number): Promise<void> {
  const postmaster = await postmasterOf(cluster);
  if (!signal(postmaster, how)) throw new Error("PostgreSQL had ended by itself.");
  await until(() => !signal(postmaster, 0));
  await sleep(pause);
  // Children that a killed one has left hold the data directory for a moment.
  await until(async () => {
    const started = await cluster.own?.start().then(
      () => true,
      () => false,
    );
    return started === true;
  });
  await untilItAnswers(cluster);
}

/** Kills one process that serves a connection to this database. The postmaster then ends all others and recovers. */
export async function killBackend(cluster: Cluster, databaseUrl: string): Promise<void> {
  let killed: number | undefined;
  await until(async () => {
    // It may have ended since: then another one is looked for.
    killed = (await sessions(cluster, databaseUrl, "pid")).find((pid) => signal(pid, "SIGKILL"));
    return killed !== undefined;
  });
  // The postmaster has heard of it when its child is gone.
  await until(() => killed === undefined || !signal(killed, 0));
  await untilItAnswers(cluster);
}

/** Ends all sessions on this database, and waits until there was one. */
export async function endSessions(cluster: Cluster, databaseUrl: string): Promise<void> {
  await until(async () => (await sessions(cluster, databaseUrl, "pid, pg_terminate_backend(pid)")).length > 0);
}

/** Process ids of the sessions on this database, in any order. */
async function sessions(cluster: Cluster, databaseUrl: string, columns: string): Promise<number[]> {
  const others = "datname = current_database() and pid <> pg_backend_pid() order by random()";
  const rows = await cluster.query<{ pid: number }>(
    `select ${columns} from pg_stat_activity where ${others}`,
    databaseUrl,
  );
  return rows.map(({ pid }) => pid);
}

async function untilItAnswers(cluster: Cluster): Promise<void> {
  await until(() =>
    cluster.query("select 1").then(
      () => true,
      () => false,
    ),
  );
}

/** False when there is no such process (any more). */
function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error("PostgreSQL did not do as it was told.");
    await sleep(20);
  }
}
