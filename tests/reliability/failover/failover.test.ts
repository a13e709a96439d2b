/**
 * The database fails over in mid-write: etcd and two PostgreSQL nodes under Patroni, two servers, clients that write and read all
 * the time. Nothing acknowledged is lost, callers see nothing but errors that say that a retry makes sense, and everything goes
 * on by itself. TACENDA_FAILOVER_ROUNDS sets the rounds.
 */

import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { afterAll, describe, expect, test } from "vitest";

import { reportBug, reportTrials } from "../report.ts";
import { CLUSTER_SETTINGS, PatroniCluster, whyNot } from "./patroni.ts";
import { failOver, type Event, type Outcome } from "./rounds.ts";

const ROUNDS = Number(process.env.TACENDA_FAILOVER_ROUNDS ?? 0);
/** The short form kills once. */
const EVENTS: readonly Event[] =
  ROUNDS === 0
    ? ["kill", "switchover"]
    : [...Array.from({ length: ROUNDS }, (): Event[] => ["kill", "switchover", "freeze"]).flat(), "standby", "strict"];
/** Milliseconds that one request may take: 8 s after its last attempt, which begins within 4 s, and what a busy machine adds. */
const LIMIT = 20_000;
const EVENT_TIME = 120_000;

const reason = whyNot();
let cluster: Promise<PatroniCluster> | undefined;
afterAll(async () => {
  await (await cluster)?.stop();
});

test("this machine runs Patroni", (context) => {
  if (reason !== null && process.env.CI === undefined) context.skip(reason);
  expect(reason, "Patroni must run where CI is set").toBeNull();
});

test("the guide shows the settings that are tested here", async () => {
  const guide = await readFile(join(import.meta.dirname, "../../../docs/postgresql.md"), "utf8");
  for (const [name, value] of Object.entries(CLUSTER_SETTINGS))
    expect(guide).toContain(`    ${name}: ${String(value)}`);
});

describe.runIf(reason === null)("while PostgreSQL fails over", () => {
  test("nothing acknowledged is lost", { timeout: 60_000 + EVENTS.length * EVENT_TIME }, async () => {
    const outcome = await failOver(await (cluster ??= PatroniCluster.start()), EVENTS);
    report(outcome);
    expect(outcome.losses).toEqual([]);
    expect(outcome.violations).toEqual([]);
    expect(outcome.slowest.exchange).toBeLessThan(LIMIT);
    expect(outcome.slowest.readiness).toBeLessThan(LIMIT);
    expect(outcome.acknowledged).toBeGreaterThan(EVENTS.length * 200);
  });

  test(
    "this test catches a standby that lags behind what is acknowledged",
    { timeout: 60_000 + EVENT_TIME },
    async () => {
      const nodes = await (cluster ??= PatroniCluster.start());
      // Patroni would rather have no leader than one that lags much.
      await nodes.configure({ synchronous_mode: false, maximum_lag_on_failover: 2 ** 30 });
      const { losses } = await failOver(nodes, ["lag"]);
      const caught = losses.some((loss) => loss.includes("was acknowledged and is lost"));
      reportBug({ id: "failover", database: "PostgreSQL", bug: "asynchronous replication", caught });
      expect(caught).toBe(true);
    },
  );
});

/** A row for each kind of event, with its gaps, and one for all. */
function report({ rounds, acknowledged, maybe, retryable, losses, violations }: Outcome): void {
  const subject = { id: "failover", database: "PostgreSQL" } as const;
  const seconds = (milliseconds: number | undefined) => `${((milliseconds ?? 0) / 1_000).toFixed(1)} s`;
  for (const event of new Set(EVENTS)) {
    const gaps = rounds.flatMap((round) => (round.event === event ? [round.gap] : [])).sort((a, b) => a - b);
    const words = `${event}: gap at most ${seconds(gaps.at(-1))}, median ${seconds(gaps[Math.floor(gaps.length / 2)])}`;
    reportTrials({ ...subject, test: words, trials: gaps.length, unit: "rounds", losses: 0, violations: 0 });
  }
  const told = Object.entries(retryable).map(([code, count]) => `${code} ${count}`);
  reportTrials({
    ...subject,
    test: `all of it; callers were told: ${told.join(", ") || "nothing"}; ${maybe} writes may have happened`,
    trials: acknowledged,
    unit: "writes",
    losses: losses.length,
    violations: violations.length,
  });
}
