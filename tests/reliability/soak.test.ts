/** A server under everything for a long time: nothing grows, and nothing goes wrong. */

import { setTimeout as sleep } from "node:timers/promises";

import { describe, expect, test } from "vitest";

import { seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder, spawnServer } from "../server-process.ts";
import { DATABASES, freshPlace, type DatabaseName } from "./databases.ts";
import { ROOT_TOKEN, STORE, adminOf } from "./key-world.ts";
import { reportBug, reportTrials } from "./report.ts";
import { EVERY_REQUEST_KEPT } from "./seeded-bugs.ts";
import { Probe, growth, type Figures } from "./soak-figures.ts";
import { SoakLoad } from "./soak-load.ts";

const MEBIBYTE = 1_048_576;
const SHORT_MINUTES = 0.4;
/** Looks for which there is time; in the long form there is a minute between two. */
const LOOKS = 30;
const MINUTES = Number(process.env.TACENDA_SOAK_MINUTES ?? SHORT_MINUTES);
const FEWEST_LOOKS = 12;
/** In the first part caches fill up: it is left out. */
const WARM_UP = 0.25;
/** Figures in which the soak must not end higher than it began, but for what chance and caches do, in bytes and numbers. */
const MOST_GROWTH = { used: 8 * MEBIBYTE, files: 20, wal: 16 * MEBIBYTE, connections: 5 };
const MOST_WAL = 64 * MEBIBYTE;
/** Ten for requests; others come and go with work on the side. */
const MOST_CONNECTIONS = 12;

async function soak(database: DatabaseName, bin: string, minutes: number) {
  const place = await freshPlace(database);
  const probe = new Probe(await freshFolder(), place);
  const env = { ...place.env, ...probe.env };
  const server = await spawnServer({ ...place, env, bin, rootToken: ROOT_TOKEN, flags: ["--metrics-port", "0"] });
  const admin = adminOf(server.url);
  await admin.stores.create(STORE);
  const { token } = await admin.tokens.create("soak", [{ stores: ["*"], permissions: ["read", "write", "delete"] }]);
  const load = await SoakLoad.begin(server.url, token);
  const figures: Figures[] = [];
  const end = performance.now() + minutes * 60_000;
  while (performance.now() < end || figures.length < FEWEST_LOOKS) {
    await sleep(Math.max(1_000, (minutes * 60_000) / LOOKS));
    figures.push(await probe.look(server));
    if (server.metricsUrl !== null) await (await fetch(server.metricsUrl)).text();
  }
  await load.stop();
  await server.end("SIGTERM");
  const measured = figures.slice(Math.floor(figures.length * WARM_UP));
  return { measured, load, faults: [...load.faults, ...grown(measured)] };
}

function grown(figures: readonly Figures[]): string[] {
  const faults = Object.entries(MOST_GROWTH).flatMap(([name, most]) => {
    const more = growth(figures, name as keyof typeof MOST_GROWTH);
    return more > most ? [`${name} grew by ${Math.round(more)}`] : [];
  });
  const wal = Math.max(...figures.map((one) => one.wal));
  const connections = Math.max(...figures.map((one) => one.connections));
  return [
    ...faults,
    ...(wal > MOST_WAL ? [`the log of SQLite had ${wal} bytes`] : []),
    ...(connections > MOST_CONNECTIONS ? [`there were ${connections} connections to PostgreSQL`] : []),
  ];
}

const inMebibytes = (bytes: number) => (bytes / MEBIBYTE).toFixed(1);

describe.each(DATABASES)("on %s", (database) => {
  test(`${MINUTES} minutes of everything`, { timeout: 180_000 + MINUTES * 90_000 }, async () => {
    const { measured, load, faults } = await soak(database, SERVER_BIN, MINUTES);
    const calls = Object.values(load.counts).reduce((sum, count) => sum + count, 0);
    const range = (name: "used" | "rss" | "wal") =>
      `${inMebibytes(measured[0]?.[name] ?? 0)} to ${inMebibytes(measured.at(-1)?.[name] ?? 0)} MiB`;
    const what = `${MINUTES} minutes: in use ${range("used")} (${inMebibytes(growth(measured, "used"))} more by the line), process ${range("rss")}`;
    if (process.env.TACENDA_SOAK_FIGURES) console.log(JSON.stringify({ database, counts: load.counts, measured }));
    reportTrials({
      id: "soak",
      test: what,
      database,
      trials: calls,
      unit: "calls",
      losses: 0,
      violations: faults.length,
    });
    expect(faults).toEqual([]);
    for (const [what, count] of Object.entries(load.counts)) expect([what, count > 0]).toEqual([what, true]);
    expect(Object.keys(load.counts)).toHaveLength(8);
  });
});

test("this suite catches a server that keeps something of every request", { timeout: 240_000 }, async () => {
  const bin = await seedServer(await freshFolder(), [EVERY_REQUEST_KEPT]);
  const { faults } = await soak("SQLite", bin, SHORT_MINUTES);
  const caught = faults.some((fault) => fault.startsWith("used grew"));
  reportBug({ id: "soak", test: "soak", database: "SQLite", bug: "something of every request kept", caught });
  expect(caught, faults.join()).toBe(true);
});
