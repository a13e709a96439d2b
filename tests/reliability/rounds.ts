/** Rounds of a few keys each, in which sixteen clients call at once while something happens to the servers or their database. */

import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { generateSecret } from "@tacenda/sdk";

import { anyOf, deploy, type Deployment, type SupervisedServer } from "./deployment.ts";
import type { DatabaseName } from "./databases.ts";
import { disturb, type Disturbance } from "./disturbances.ts";
import { History } from "./history.ts";
import { HttpClient, type HistoryClient } from "./http-client.ts";
import { SdkClient } from "./sdk-client.ts";

export const CLIENTS = 16;
/** Few, so that clients meet. */
const KEYS = 5;
/** Milliseconds between a client's calls, at most. */
const THINKING = 20;
/** Of each key; until then a round lasts. */
const FEWEST_ANSWERS = 30;
/** Milliseconds for the last reads. */
const PATIENCE = 30_000;
/** Milliseconds until a round in which hardly anything is answered is given up. */
const STANDSTILL = 120_000;

export interface Game {
  bin: string;
  database: DatabaseName;
  servers: number;
  by: "HTTP" | "SDK";
  /** One in each round, all of them in turn. */
  disturbances: readonly Disturbance[];
  /** How many histories; fewer if `untilFault` and there is one. */
  histories: number;
  untilFault?: boolean;
}

export interface Result {
  histories: number;
  calls: number;
  /** Calls whose outcome their client never heard. */
  open: number;
  /** Acknowledged and gone. */
  losses: string[];
  /** Histories that no order explains, and answers that are wrong by themselves. */
  violations: string[];
}

export async function play(game: Game): Promise<Result> {
  const { bin, database, by, disturbances, untilFault = false } = game;
  const deployment = await deploy(bin, database, game.servers);
  const { servers, faults } = deployment;
  const secret = generateSecret();
  const sent = new Map<string, string>();
  const clientOf = (some: readonly SupervisedServer[]): HistoryClient =>
    by === "HTTP" ? new HttpClient(some, sent) : new SdkClient(some, secret);
  const clients = Array.from({ length: CLIENTS }, () => clientOf(servers));
  // The last word on each key is that of one who has seen nothing of it before, at every server.
  const judges = servers.map((server) => clientOf([server]));
  const result: Result = { histories: 0, calls: 0, open: 0, losses: [], violations: [] };
  for (let round = 0; result.histories < game.histories; round++) {
    const disturbance = disturbances[round % disturbances.length];
    const histories = await playRound(deployment, clients, disturbance);
    for (const history of histories) for (const judge of judges) await readAtLast(judge, history);
    for (const history of histories) {
      result.histories++;
      result.calls += history.answered + history.open;
      result.open += history.open;
      for (const { kind, what } of history.judge()) {
        (kind === "loss" ? result.losses : result.violations).push(`${disturbance?.name ?? "in peace"}: ${what}`);
      }
    }
    sent.clear();
    result.violations.push(...faults.splice(0));
    if (untilFault && result.losses.length + result.violations.length > 0) break;
  }
  await Promise.all(servers.map((server) => server.end("SIGTERM")));
  return result;
}

async function playRound(
  deployment: Deployment,
  clients: readonly HistoryClient[],
  disturbance: Disturbance | undefined,
): Promise<History[]> {
  const histories = Array.from({ length: KEYS }, () => new History());
  let isOver = false;
  const playing = clients.map(async (client) => {
    while (!isOver) {
      await client.act(anyOf(histories));
      await sleep(randomInt(THINKING));
    }
  });
  try {
    if (disturbance !== undefined) await disturb(deployment, disturbance);
    await sleep(randomInt(100));
    const deadline = performance.now() + STANDSTILL;
    while (histories.some(({ answered }) => answered < FEWEST_ANSWERS)) {
      if (performance.now() > deadline) throw new Error(`Too few calls are answered. ${deployment.faults.join("; ")}`);
      await sleep(20);
    }
  } finally {
    isOver = true;
  }
  await Promise.all(playing);
  return histories;
}

async function readAtLast(judge: HistoryClient, history: History): Promise<void> {
  const deadline = performance.now() + PATIENCE;
  while (!(await judge.read(history))) {
    if (performance.now() > deadline) throw new Error("A server does not answer although all is over.");
    await sleep(20);
  }
}
