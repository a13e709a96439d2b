/** What happens to servers and their database in the middle of writes: R3's and R6's failures, each at random moments. */

import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import type { DatabaseLink } from "./database-link.ts";
import { anyOf, untilReady, type Deployment } from "./deployment.ts";
import { endSessions, killBackend, restart } from "./postmaster.ts";

/** Milliseconds for which the database stays away between its end and its start. */
const LONGEST_ABSENCE = 400;
/** For which COMMITs are cut, and for which a network is silent. */
const LONGEST_DISTURBANCE = 700;
/** After which a server itself gives up a connection on which no answer comes, and a little more. */
const WHOLE_SILENCE = 23_000;

export interface Disturbance {
  name: string;
  /** Resolves when it is over; the servers may still be recovering. */
  run(deployment: Deployment): Promise<void>;
}

const databaseOf = ({ database }: Deployment) => {
  if (database === null) throw new Error("SQLite has no server that could end.");
  return database;
};
const aWhile = () => sleep(randomInt(100, LONGEST_DISTURBANCE));

const restarting = (name: string, signal: Parameters<typeof restart>[1]): Disturbance => ({
  name,
  run: (deployment) => restart(databaseOf(deployment).cluster, signal, randomInt(LONGEST_ABSENCE)),
});

/** @throws {Error} when `meddle` has met nothing that it could disturb. */
const onLinks = (name: string, meddle: (links: readonly DatabaseLink[]) => Promise<void>): Disturbance => ({
  name,
  async run({ servers }) {
    const links = servers.flatMap(({ link }) => link ?? []);
    const hits = () => links.reduce((sum, link) => sum + link.hits, 0);
    const before = hits();
    await meddle(links);
    if (hits() === before) throw new Error(`There was nothing to disturb: ${name}.`);
  },
});

const cuttingCommits = (name: string, when: "before" | "after"): Disturbance =>
  onLinks(name, async (links) => {
    for (const link of links) link.cutCommits(when);
    await aWhile();
    for (const link of links) link.cutCommits(null);
  });

const silencing = (
  name: string,
  what: "everything" | "answers",
  how: "delivered" | "lost",
  wait: () => Promise<unknown> = aWhile,
): Disturbance =>
  onLinks(name, async (links) => {
    const link = anyOf(links);
    link.silence(what);
    await wait();
    link.endSilence(how);
  });

/** kill -9 of one server, which is started again while the others go on. */
export const SERVER_KILL: Disturbance = {
  name: "kill -9 of a server",
  async run({ servers }) {
    const server = anyOf(servers);
    await server.end("SIGKILL");
    await server.start();
  },
};

export const DATABASE_RESTARTS: readonly Disturbance[] = [
  restarting("fast restart", "SIGINT"),
  restarting("immediate stop", "SIGQUIT"),
  restarting("kill -9 of the postmaster", "SIGKILL"),
  {
    name: "kill -9 of a backend",
    run: (deployment) => killBackend(databaseOf(deployment).cluster, databaseOf(deployment).url),
  },
];

export const COMMIT_CUTS: readonly Disturbance[] = [
  cuttingCommits("cuts before COMMIT arrives", "before"),
  cuttingCommits("cuts after COMMIT, before its answer", "after"),
];

export const CONNECTION_CUTS: readonly Disturbance[] = [
  ...COMMIT_CUTS,
  {
    name: "all sessions terminated",
    run: (deployment) => endSessions(databaseOf(deployment).cluster, databaseOf(deployment).url),
  },
  onLinks("resets at random moments", async (links) => {
    for (let count = 0; count < 10; count++) {
      anyOf(links).reset();
      await sleep(randomInt(60));
    }
  }),
  silencing("a silence, then all arrives", "everything", "delivered"),
  silencing("a silence, then a reset", "everything", "lost"),
  silencing("answers lost, then a reset", "answers", "lost"),
];

/** Until the server gives up by itself: half a minute each. */
export const WHOLE_SILENCES: readonly Disturbance[] = [
  silencing("a silence without end", "everything", "lost", () => sleep(WHOLE_SILENCE)),
  silencing("answers lost without end", "answers", "lost", () => sleep(WHOLE_SILENCE)),
];

/** Waits a moment, disturbs, and waits until every server is of use again, by itself. */
export async function disturb(deployment: Deployment, disturbance: Disturbance): Promise<void> {
  await sleep(randomInt(20, 300));
  await disturbance.run(deployment);
  await untilReady(deployment);
}
