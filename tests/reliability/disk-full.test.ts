/**
 * A full disk: writes are refused in so many words, reads go on, nothing acknowledged is lost, nothing refused is there, a server
 * still starts, and all is well by itself when there is room. Where PostgreSQL's log has none PostgreSQL itself stops; then all is
 * refused until it is back. TACENDA_FULL_ROUNDS says how often a disk fills; from the fifth time on old versions make room inside the
 * database's file, and it does not fill any more.
 */

import { join } from "node:path";

import { afterAll, describe, expect, onTestFinished, test } from "vitest";

import { seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder } from "../server-process.ts";
import type { DatabaseName } from "./databases.ts";
import { fillAndRecover, type Scarcity } from "./disk-full.ts";
import { reportBug, reportTrials } from "./report.ts";
import { FULL_DISK_SWALLOWED } from "./seeded-bugs.ts";
import { openSmallDisk } from "./small-disk.ts";
import { startSmallPostgres, type SmallPostgres } from "./small-postgres.ts";

const ROUNDS = Number(process.env.TACENDA_FULL_ROUNDS ?? 1);
const DISK_BYTES = 24 * 1_048_576;
const RESTARTS = ["SIGKILL", "SIGTERM"] as const;

let postgres: Promise<SmallPostgres | null> | undefined;
afterAll(async () => (await postgres)?.stop());

interface Case {
  database: DatabaseName;
  test: string;
  open: () => Promise<Scarcity>;
}

const SQLITE: Case = { database: "SQLite", test: "the disk full under 6 writers", open: openSqlite };
const TABLES: Case = { database: "PostgreSQL", test: "the tables' disk full under 6 writers", open: openTables };
const LOG: Case = { database: "PostgreSQL", test: "the log's disk full under 6 writers", open: openLog };

async function openSqlite(): Promise<Scarcity> {
  const disk = needed(await openSmallDisk(DISK_BYTES));
  onTestFinished(() => disk.remove());
  return { disk, place: { dataDir: join(disk.path, "data"), env: {} }, readsGoOn: true, restarts: RESTARTS };
}

async function openTables(): Promise<Scarcity> {
  const { tables, createDatabase } = needed(await (postgres ??= startSmallPostgres()));
  return { disk: tables, place: await placeOf(await createDatabase()), readsGoOn: true, restarts: RESTARTS };
}

async function openLog(): Promise<Scarcity> {
  const { log, createDatabase } = needed(await (postgres ??= startSmallPostgres()));
  return { disk: log, place: await placeOf(await createDatabase()), readsGoOn: false, restarts: [] };
}

async function placeOf(url: string): Promise<Scarcity["place"]> {
  return { dataDir: join(await freshFolder(), "data"), env: { TACENDA_DATABASE_URL: url } };
}

function needed<T>(disk: T | null): T {
  return disk ?? expect.unreachable("no tmpfs can be mounted");
}

const probe = await openSmallDisk(1_048_576);
await probe?.remove();

describe("a full disk", { timeout: 120_000 + ROUNDS * 30_000 }, () => {
  test("can be had on this machine", (context) => {
    if (probe === null && process.env.CI === undefined) context.skip("no tmpfs can be mounted: run as root to check");
    expect(probe, "where CI is set it must be possible to mount a tmpfs").not.toBeNull();
  });

  test.runIf(probe).each([SQLITE, TABLES, LOG])("on $database, $test", async ({ open, ...subject }) => {
    const { losses, faults, acknowledged, refused } = await fillAndRecover(SERVER_BIN, await open(), ROUNDS);
    console.log(subject, acknowledged, refused);
    const counts = { losses: losses.length, violations: faults.length };
    reportTrials({ id: "R4", ...subject, trials: ROUNDS, unit: "fillings", ...counts });
    expect([...losses, ...faults]).toEqual([]);
    expect(Object.values(refused).reduce((sum, count) => sum + count, 0)).toBeGreaterThan(ROUNDS);
  });

  test.runIf(probe).each([SQLITE, TABLES])("on $database this suite catches a swallowed refusal", async (one) => {
    const { open, ...subject } = one;
    const bin = await seedServer(await freshFolder(), [FULL_DISK_SWALLOWED]);
    const { losses, faults } = await fillAndRecover(bin, { ...(await open()), restarts: [] }, 1);
    const caught = [...losses, ...faults].join("\n").includes("reads otherwise");
    reportBug({ id: "R4", ...subject, bug: "a full disk acknowledged", caught });
    expect(caught, [...losses, ...faults].join("\n")).toBe(true);
  });
});
