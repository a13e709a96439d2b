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
/** COMMITs, connections or messages that each of them meets; and how often to wait for that, 50 ms each time. */
const FEWEST_HITS = 5;
const MOST_WAITS = 400;
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

const restarting = (name: string, signal: Parameters<typeof restart>[1]): Disturbance => ({
  name,
  run: (deployment) => restart(databaseOf(deployment).cluster, signal, randomInt(LONGEST_ABSENCE)),
});

/** `begin` is at work for a while, and until it has disturbed a little. @throws {Error} when it meets nothing. */
const onLinks = (
  name: string,
  begin: (links: readonly DatabaseLink[]) => () => void,
  wait: () => Promise<unknown> = () => sleep(randomInt(100, LONGEST_DISTURBANCE)),
): Disturbance => ({
  name,
  async run({ servers }) {
    const links = servers.flatMap(({ link }) => link ?? []);
    const hits = () => links.reduce((sum, link) => sum + link.hits, 0);
    const before = hits();
    const end = begin(links);
    await wait();
    for (let waits = 0; hits() < before + FEWEST_HITS; waits++) {
      if (waits === MOST_WAITS) throw new Error(`There was too little to disturb: ${name}.`);
      await sleep(50);
    }
    end();
  },
});

const cuttingCommits = (name: string, when: "before" | "after"): Disturbance =>
  onLinks(name, (links) => {
    for (const link of links) link.cutCommits(when);
    return () => {
      for (const link of links) link.cutCommits(null);
    };
  });

const silencing = (
  name: string,
  what: "everything" | "answers",
  how: "delivered" | "lost",
  wait?: () => Promise<unknown>,
): Disturbance =>
  onLinks(
    name,
    (links) => {
      const link = anyOf(links);
      link.silence(what);
      return () => link.endSilence(how);
    },
    wait,
  );

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
  onLinks("resets at random moments", (links) => {
    const timer = setInterval(() => anyOf(links).reset(), 40);
    return () => clearInterval(timer);
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
