// The long form of the reliability suite: many trials of each test, and one table of what they came to. Arguments go to vitest.

import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";

const RESULTS = "node_modules/.cache/reliability.jsonl";

/** How many trials; the short form, in CI, runs the tests' own defaults. */
const LONG = {
  TACENDA_KILL_ROUNDS: "200",
  TACENDA_KEY_KILL_ROUNDS: "100",
  TACENDA_KEY_TOURS: "5",
  TACENDA_FAILOVER_ROUNDS: "6",
  TACENDA_FULL_ROUNDS: "4",
  TACENDA_DATABASE_FAILURES: "20",
  TACENDA_HISTORIES: "2000",
  TACENDA_SLOW_ROUNDS: "5",
  TACENDA_MODEL_SEQUENCES: "10000",
  TACENDA_FUZZ_REQUESTS: "100000",
  TACENDA_COPY_RECORDS: "100000",
  TACENDA_COPY_KILLS: "10",
  // More than there are: all of them.
  TACENDA_FLIPS: "1000000",
  TACENDA_KEY_FLIPS: "150",
  TACENDA_PROVIDER_FAILURES: "all",
  TACENDA_BACKUP_ROUNDS: "5",
  TACENDA_TAKEOVERS: "long",
  TACENDA_OVERLOAD_SECONDS: "60",
  TACENDA_SOAK_MINUTES: "30",
};

mkdirSync("node_modules/.cache", { recursive: true });
rmSync(RESULTS, { force: true });
const { status } = spawnSync(
  "npx",
  [
    "vitest",
    "run",
    "--project",
    "system",
    ...(process.argv.length > 2 ? process.argv.slice(2) : ["tests/reliability"]),
  ],
  { stdio: "inherit", env: { ...LONG, ...process.env, TACENDA_RELIABILITY_RESULTS: `${process.cwd()}/${RESULTS}` } },
);
printTables(readRows());
process.exitCode = status ?? 1;

function readRows() {
  try {
    return readFileSync(RESULTS, "utf8")
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
  } catch {
    return [];
  }
}

function printTables(rows) {
  const byId = rows.toSorted(
    (one, other) => numberOf(one.id) - numberOf(other.id) || titleOf(one).localeCompare(titleOf(other)),
  );
  print(
    ["id", "test", "database", "trials", "losses", "violations"],
    byId
      .filter(({ kind }) => kind === "trials")
      .map((row) => [row.id, row.test, row.database ?? "–", `${row.trials} ${row.unit}`, row.losses, row.violations]),
  );
  print(
    ["id", "seeded bug", "database", "caught"],
    byId
      .filter(({ kind }) => kind === "bug")
      .map((row) => [row.id, row.bug, row.database ?? "–", row.caught ? "yes" : "NO"]),
  );
}

function titleOf({ test, bug }) {
  return bug ?? test;
}

function numberOf(id) {
  return Number(/^R([0-9]+)$/.exec(id)?.[1] ?? 99);
}

function print(header, rows) {
  const lines = [header, header.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`);
  process.stdout.write(`\n${lines.join("\n")}\n`);
}
