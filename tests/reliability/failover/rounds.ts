/** What can befall a database of two nodes while two servers and their clients use it, and how long nothing was acknowledged. */

import { randomInt } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";

import { freshFolder, spawnServer } from "../../server-process.ts";
import { Ledger } from "../ledger.ts";
import { FailoverLoad, longestPause } from "./load.ts";
import type { Node, PatroniCluster } from "./patroni.ts";

const ROOT_TOKEN = "root-token-of-the-failover-test-0123456789abcdef";
const STORE = "ledger";
/** Milliseconds of writing before something happens, and after it is over. */
const BEFORE = { least: 1_500, most: 4_000 };
const AFTER = 2_000;
/** Milliseconds without a standby, of which some pass before the leader's last answers are in. */
const WITHOUT_STANDBY = 15_000;
const LAST_ANSWERS = 1_000;
/** Milliseconds in which the leader acknowledges what it has not sent to its standby. */
const HELD = 700;

/**
 * What happens. `kill`: the leader's machine is gone. `freeze`: it stands still, and goes on when it has been replaced.
 * `switchover`: as planned, by patronictl. `standby`: the standby's machine is gone. `strict`: the same, and nothing may be
 * acknowledged without one. `lag`: the leader's machine is gone, after it has sent nothing to its standby for a while.
 */
export type Event = "kill" | "freeze" | "switchover" | "standby" | "strict" | "lag";

interface Round {
  event: Event;
  /** Milliseconds in which a server acknowledged nothing, the longest of both. */
  gap: number;
}

export interface Outcome {
  rounds: Round[];
  acknowledged: number;
  /** Writes of which their callers were told that they may have happened. */
  maybe: number;
  /** What callers were told that a retry makes sense after, by the error's code. */
  retryable: Record<string, number>;
  slowest: { exchange: number; readiness: number };
  /** What was acknowledged and is not there, or is something else. */
  losses: string[];
  violations: string[];
}

/** Two servers on a database of their own, under load; one event after the other. */
export async function failOver(cluster: PatroniCluster, events: readonly Event[]): Promise<Outcome> {
  const { leader } = await cluster.settled();
  const database = `t_${Date.now()}`;
  await cluster.query(leader, `create database ${database}`);
  const folder = await freshFolder();
  const env = { TACENDA_DATABASE_URL: cluster.url(database), TACENDA_KEYRING: join(folder, "keyring.json") };
  const start = (name: string) => spawnServer({ dataDir: join(folder, name), rootToken: ROOT_TOKEN, env });
  const servers = [await start("one"), await start("two")];
  const url = servers[0]?.url ?? "";
  await new TacendaAdmin({ url, token: ROOT_TOKEN }).stores.create(STORE);
  const secret = generateSecret();
  const ledger = new Ledger();
  const places = servers.map((server) => ({ url: server.url, token: ROOT_TOKEN, store: STORE, secret }));
  const load = new FailoverLoad(places, ledger);
  const world: World = { cluster, load, database, violations: [] };
  const rounds: Round[] = [];
  try {
    for (const event of events) rounds.push({ event, gap: await makeHappen(event, world) });
  } finally {
    await load.stop();
  }
  const faults = await ledger.audit(url, ROOT_TOKEN);
  const isLoss = (fault: string) => fault.includes("acknowledged");
  return {
    rounds,
    acknowledged: ledger.acknowledged,
    maybe: load.maybe,
    retryable: Object.fromEntries(load.retryable),
    slowest: load.slowest,
    losses: faults.filter(isLoss),
    violations: [...faults.filter((fault) => !isLoss(fault)), ...new Set([...load.faults, ...world.violations])],
  };
}

interface World {
  cluster: PatroniCluster;
  load: FailoverLoad;
  database: string;
  violations: string[];
}

/** Gives the gap. */
async function makeHappen(event: Event, world: World): Promise<number> {
  const { cluster, load, violations } = world;
  if (event === "strict") await cluster.configure({ synchronous_mode_strict: true });
  const { leader, standby } = await cluster.settled();
  await sleep(randomInt(BEFORE.least, BEFORE.most));
  if (event === "lag") {
    await cluster.holdReplication(leader);
    await sleep(HELD);
  }
  const begin = performance.now();
  const gone = await strike(event, world, { leader, standby });
  await recovered(world, begin);
  const gap = Math.max(...load.acknowledged.map((times) => longestPause(times, begin, performance.now())));
  if (event === "kill" || event === "freeze") violations.push(...unready(load, begin));
  if (event === "freeze") {
    cluster.thaw(leader);
    await sleep(AFTER);
  }
  // In a lag the former leader has what nobody else has: it stays away.
  if (gone !== null && event !== "lag") {
    cluster.restart(gone);
    await cluster.settled();
  }
  if (event === "strict") await cluster.configure({ synchronous_mode_strict: false });
  if (event !== "lag") violations.push(...(await leftConnections(world)));
  return gap;
}

/** The node that was killed and is still down. */
async function strike(
  event: Event,
  world: World,
  { leader, standby }: Record<"leader" | "standby", Node>,
): Promise<Node | null> {
  const { cluster, load, violations } = world;
  switch (event) {
    case "kill":
    case "lag":
      await cluster.kill(leader);
      return leader;
    case "freeze":
      cluster.freeze(leader);
      return null;
    case "switchover":
      await cluster.switchover(leader, standby);
      return null;
    case "standby":
      await cluster.kill(standby);
      return standby;
    case "strict": {
      await cluster.kill(standby);
      await sleep(LAST_ANSWERS);
      const count = () => load.acknowledged.flat().length;
      const before = count();
      await sleep(WITHOUT_STANDBY);
      const early = count() - before;
      if (early > 0) violations.push(`${early} writes were acknowledged without a standby`);
      cluster.restart(standby);
      return null;
    }
  }
}

/** Waits until both servers are ready, and have acknowledged writes for a while. */
async function recovered({ cluster, load }: World, begin: number): Promise<void> {
  await cluster.until("a server that acknowledges writes again", () => {
    const since = performance.now() - AFTER;
    const isWriting = load.acknowledged.every(
      (times) => since > begin && times.some((time) => time > begin && time < since),
    );
    const isReady = load.readiness.every((answers) => answers.at(-1)?.status === 200);
    return Promise.resolve(isWriting && isReady && longestPauses(load, since) < AFTER / 2 ? true : null);
  });
}

function longestPauses(load: FailoverLoad, since: number): number {
  return Math.max(...load.acknowledged.map((times) => longestPause(times, since, performance.now())));
}

/** Servers that called themselves ready all the time. */
function unready(load: FailoverLoad, begin: number): string[] {
  return load.readiness.flatMap((answers, server) => {
    const wasReady = answers.every(({ at, status }) => at < begin || status === 200);
    return wasReady ? [`server ${server} was ready without a database`] : [];
  });
}

/** Connections beyond those that two servers may have, or that wait for something by now. */
async function leftConnections({ cluster, database }: World): Promise<string[]> {
  const { leader } = await cluster.settled();
  const rows = await cluster.query<{ state: string; wait_event: string | null }>(
    leader,
    `select state, wait_event from pg_stat_activity
     where datname = '${database}' and application_name = 'tacenda-server' and
       (state_change < now() - interval '10 s' and state <> 'idle' or wait_event = 'SyncRep' and state_change < now() - interval '5 s')`,
  );
  return rows.map(({ state, wait_event }) => `a connection is left: ${state}, ${wait_event ?? "waiting for nothing"}`);
}
