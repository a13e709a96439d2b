/** More load than the server takes on: memory stays bounded, answers are clear, others go on, and afterwards all is as before. */

import { describe, expect, test } from "vitest";

import { seedServer, type Edit } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder } from "../server-process.ts";
import { DATABASES, type DatabaseName } from "./databases.ts";
import {
  SECONDS,
  inMebibytes,
  ANSWERS_BOUND,
  tooMuch,
  tryAnswers,
  tryBodies,
  tryFlood,
  tryGarbage,
  tryLog,
  tryStuck,
} from "./overload-trials.ts";
import { reportBug, reportTrials } from "./report.ts";
import {
  ALL_ANSWERS_HELD,
  ALL_BODIES_TAKEN,
  ALL_REQUESTS_LET_IN,
  ALL_STRANGERS_LOOKED_UP,
  WAITING_IN_SQLITE,
  WHOLE_LOG_KEPT,
} from "./seeded-bugs.ts";

describe.each(DATABASES)("on %s", (database) => {
  test("a flood of 1 MiB writes from 300 connections", { timeout: 120_000 + SECONDS * 1_000 }, async () => {
    const { faults, flooded, peak } = await tryFlood(database, SERVER_BIN);
    report(database, `1 MiB writes from 300 connections, ${inMebibytes(peak)}`, flooded.answers.length, faults);
    expect(faults).toEqual([]);
    // Whether any is shed depends on the machine: a fast one has room for the next before it has waited too long.
    expect(flooded.statuses[201]).toBeGreaterThan(0);
  });

  test("writes that cannot be made for 8 seconds, from 200 connections", { timeout: 120_000 }, async () => {
    const { faults, flooded } = await tryStuck(database, SERVER_BIN);
    report(database, "writes while the database is locked", flooded.answers.length, faults);
    expect(faults).toEqual([]);
    expect(flooded.statuses[503]).toBeGreaterThan(200);
  });

  test("made-up tokens from 200 connections", { timeout: 120_000 + SECONDS * 1_000 }, async () => {
    const { faults, flooded } = await tryGarbage(database, SERVER_BIN);
    report(database, "made-up tokens from 200 connections", flooded.answers.length, faults);
    expect(faults).toEqual([]);
    expect(flooded.statuses[401]).toBeGreaterThan(200);
  });
});

test("500 bodies that almost arrive", { timeout: 120_000 }, async () => {
  const { peak, faults } = await tryBodies(SERVER_BIN);
  report(null, `500 bodies of 1 MiB that almost arrive, ${inMebibytes(peak)}`, 500, [...faults, ...tooMuch(peak)]);
  expect([...faults, ...tooMuch(peak)]).toEqual([]);
});

test("80 answers of 7 MiB that nobody takes", { timeout: 120_000 }, async () => {
  const { peak, faults } = await tryAnswers(SERVER_BIN);
  report(null, `80 answers of 7 MiB that nobody takes, ${inMebibytes(peak)}`, 80, [
    ...faults,
    ...tooMuch(peak, ANSWERS_BOUND),
  ]);
  expect([...faults, ...tooMuch(peak, ANSWERS_BOUND)]).toEqual([]);
});

test("a log that nobody reads", { timeout: 180_000 }, async () => {
  const faults = await tryLog(SERVER_BIN);
  report(null, "a log that nobody reads", 1, faults);
  expect(faults).toEqual([]);
});

describe("this suite catches", () => {
  const bugs: [
    bug: string,
    edits: readonly Edit[],
    database: DatabaseName | null,
    run: (bin: string) => Promise<string[]>,
  ][] = [
    ["bodies taken without bound", [ALL_BODIES_TAKEN], null, async (bin) => tooMuch((await tryBodies(bin)).peak)],
    [
      "answers held without bound",
      [ALL_ANSWERS_HELD],
      null,
      async (bin) => tooMuch((await tryAnswers(bin)).peak, ANSWERS_BOUND),
    ],
    [
      "requests let in without bound",
      [ALL_REQUESTS_LET_IN],
      "PostgreSQL",
      async (bin) => (await tryStuck("PostgreSQL", bin)).faults,
    ],
    [
      "waiting for a lock inside SQLite",
      [WAITING_IN_SQLITE],
      "SQLite",
      async (bin) => (await tryStuck("SQLite", bin)).faults,
    ],
    [
      "made-up tokens looked up without bound",
      [ALL_STRANGERS_LOOKED_UP],
      "PostgreSQL",
      async (bin) => (await tryGarbage("PostgreSQL", bin)).faults,
    ],
    ["a log kept without bound", [WHOLE_LOG_KEPT], null, tryLog],
  ];
  test.each(bugs)("%s", { timeout: 180_000 }, async (bug, edits, database, run) => {
    const bin = await seedServer(await freshFolder(), edits);
    const faults = await run(bin);
    reportBug({ id: "overload", test: "overload", database, bug, caught: faults.length > 0 });
    expect(faults).not.toEqual([]);
  });
});

function report(database: DatabaseName | null, what: string, trials: number, faults: readonly string[]): void {
  reportTrials({
    id: "overload",
    test: what,
    database,
    trials,
    unit: "requests",
    losses: 0,
    violations: faults.length,
  });
}
