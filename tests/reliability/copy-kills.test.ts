/**
 * `copy` killed at random moments (kill -9), or cut off from PostgreSQL, over and over and run again: in the end everything is
 * in the new database, opens, and is what clients read. TACENDA_COPY_RECORDS sets how much there is to copy, TACENDA_COPY_KILLS
 * how often it is killed.
 */

import { randomInt } from "node:crypto";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, generateSecret, type Store } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import BetterSqlite3 from "better-sqlite3";
import { describe, expect, test } from "vitest";

import { seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder, runCommand, spawnServer, type CommandResult } from "../server-process.ts";
import { freshPlace, sharedCluster, type DatabaseName, type Place } from "./databases.ts";
import { reportBug, reportTrials } from "./report.ts";
import { COPY_LOSES_ROWS, COPY_LOSES_ROWS_SEEN } from "./seeded-bugs.ts";

const RECORDS = Number(process.env.TACENDA_COPY_RECORDS ?? 2_000);
const KILLS = Number(process.env.TACENDA_COPY_KILLS ?? 4);
/** The way back is shown with less. */
const RECORDS_BACK = Math.min(RECORDS, 10_000);
const ROOT_TOKEN = "root-token-of-the-copy-test-0123456789abcdef";
const BATCH = 100;
const LANES = 4;
/** Milliseconds after a moment that is seen from outside. */
const LATEST_KILL = 400;
/** Milliseconds after which a copy that found its way after a cut is killed. */
const LATEST_CUT = 2_000;

interface World {
  bin: string;
  source: Place;
  target: Place;
  keyring: string;
  secret: string;
  records: number;
}

const keyOf = (index: number) => `key-${index}`;
const valueOf = (index: number) => `value ${index} `.padEnd(100 + (index % 7) * 50, "=");

function storeOf(url: string, secret: string): Store {
  return new Tacenda({ url, token: ROOT_TOKEN }).getStore("moved", { secret, stretch: "store" });
}

/** Runs `work` on the batches of all records, a few at a time. */
async function inBatches(records: number, work: (indexes: number[]) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < records) {
      const start = next;
      next += BATCH;
      await work(Array.from({ length: Math.min(BATCH, records - start) }, (_, offset) => start + offset));
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

async function openWorld(bin: string, from: DatabaseName, to: DatabaseName, records: number): Promise<World> {
  const [source, target] = [await freshPlace(from), await freshPlace(to)];
  const secret = generateSecret();
  const server = await spawnServer({ ...source, rootToken: ROOT_TOKEN });
  const admin = new TacendaAdmin({ url: server.url, token: ROOT_TOKEN });
  await admin.stores.create("moved");
  const store = storeOf(server.url, secret);
  await inBatches(records, async (indexes) => {
    await store.setValues(indexes.map((index) => [keyOf(index), valueOf(index)] as const));
  });
  // Every hundredth has a second version, under another data key.
  await admin.keys.rotateData("moved");
  for (let index = 0; index < records; index += 100) await store.setValue(keyOf(index), valueOf(index));
  await server.end("SIGTERM");
  return { bin, source, target, keyring: join(source.dataDir, "keyring.json"), secret, records };
}

/** Records that are in the target now. */
async function countIn({ target }: World): Promise<number> {
  try {
    if (target.databaseUrl === null) {
      const raw = new BetterSqlite3(join(target.dataDir, "tacenda.db"), { readonly: true, fileMustExist: true });
      try {
        return raw.prepare("select count(*) from records").pluck().get() as number;
      } finally {
        raw.close();
      }
    }
    const query = "select count(*)::int as count from records";
    const [row] = await (await sharedCluster()).query<{ count: number }>(query, target.databaseUrl);
    return row?.count ?? 0;
  } catch {
    // Its tables are not there yet.
    return 0;
  }
}

function copy({ bin, source, target, keyring }: World, until?: (running: () => boolean) => Promise<void>) {
  const env = {
    TACENDA_COPY_FROM: source.databaseUrl ?? source.dataDir,
    TACENDA_COPY_TO: target.databaseUrl ?? target.dataDir,
    TACENDA_KEYRING: keyring,
  };
  return runCommand(["copy", "--close-source"], { bin, env, ...(until && { until }) });
}

/** How copies end before their time, in turn. */
const ENDINGS = ["killed soon", "killed on the way", "cut off on the way", "killed on the way"] as const;

/** Lets a copy run to a random moment: soon, or when some more records are there; the last one, when it compares or opens. */
async function copyAndKill(world: World, attempt: number): Promise<CommandResult> {
  const { records } = world;
  const ending = ENDINGS[attempt % ENDINGS.length];
  return await copy(world, async (running) => {
    const there = await countIn(world);
    const more = 1 + randomInt(1 + Math.floor((records - there) / 3));
    const enough = attempt === KILLS - 1 ? records : Math.min(records, there + more);
    while (ending !== "killed soon" && running() && (await countIn(world)) < enough) await sleep(5);
    await sleep(randomInt(LATEST_KILL));
    if (ending !== "cut off on the way") return;
    await cut(world);
    // Writes are tried again on new connections; what reads one state cannot be.
    const deadline = Date.now() + LATEST_CUT;
    while (running() && Date.now() < deadline) await sleep(5);
  });
}

/** Ends the connections of the copy, at the server. */
async function cut({ source, target }: World): Promise<void> {
  for (const { databaseUrl } of [source, target]) {
    if (databaseUrl === null) continue;
    const query =
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'tacenda-copy-%' and datname = current_database()";
    await (await sharedCluster()).query(query, databaseUrl);
  }
}

/** What is wrong with a target whose copy is not finished: a server, or a command, must not take it for whole. */
async function takenForWhole({ bin, target, keyring }: World): Promise<string[]> {
  const args = ["verify", "--data-dir", target.dataDir, "--keyring", keyring];
  const { code, output } = await runCommand(args, { bin, env: target.env });
  const isRefused =
    /is half copied|There is no database in|There is nothing of Tacenda in|older version of Tacenda/.test(output);
  return code !== 0 && isRefused ? [] : [`a copy that is not finished is verified with ${code}: ${output}`];
}

/** Values that a client of the new server does not read as they were written. */
async function misread({ bin, target, keyring, secret, records }: World): Promise<string[]> {
  const { url } = await spawnServer({ bin, ...target, flags: ["--keyring", keyring], rootToken: ROOT_TOKEN });
  const store = storeOf(url, secret);
  const faults: string[] = [];
  await inBatches(records, async (indexes) => {
    const values = await store.getValues(indexes.map(keyOf)).catch((error: unknown) => String(error));
    for (const index of indexes) {
      if (typeof values === "string" || values.get(keyOf(index)) !== valueOf(index)) {
        faults.push(`${keyOf(index)} is lost: ${typeof values === "string" ? values : "it reads otherwise"}`);
      }
    }
  });
  return faults;
}

interface Outcome {
  kills: number;
  cuts: number;
  /** Records that the run which came to its end found there already. */
  kept: number;
  faults: string[];
}

async function killAndFinish(world: World): Promise<Outcome> {
  const outcome: Outcome = { kills: 0, cuts: 0, kept: 0, faults: [] };
  const { faults } = outcome;
  let finished: CommandResult | undefined;
  for (let attempt = 0; attempt < KILLS && finished === undefined; attempt++) {
    const result = await copyAndKill(world, attempt);
    const { code, output } = result;
    // It was faster, or found its way.
    if (code === 0) {
      finished = result;
      continue;
    }
    if (code === null) outcome.kills++;
    else if (output.includes("Run the same command again")) outcome.cuts++;
    else faults.push(`it ended with ${code}: ${output}`);
    faults.push(...(await takenForWhole(world)));
  }
  const { code, output } = finished ?? (await copy(world));
  if (code !== 0) faults.push(`the last run ended with ${code}: ${output}`);
  if (!output.includes("No server starts on")) faults.push(`the source is not closed: ${output}`);
  outcome.kept = Number(/Of these, (\d+) records/.exec(output)?.[1] ?? 0);
  const args = ["verify", "--data-dir", world.target.dataDir, "--keyring", world.keyring];
  const verified = await runCommand(args, { bin: world.bin, env: world.target.env });
  if (verified.code !== 0) faults.push(`verify ends with ${verified.code}: ${verified.output}`);
  faults.push(...(await misread(world)));
  return outcome;
}

describe.each([
  ["SQLite", "PostgreSQL", RECORDS],
  ["PostgreSQL", "SQLite", RECORDS_BACK],
] as const)("a copy from %s to %s of %i records", (from, to, records) => {
  const timeout = 120_000 + records * 20 + KILLS * (10_000 + records * 3);

  test(`that is killed or cut off ${KILLS} times loses nothing`, { timeout }, async () => {
    const world = await openWorld(SERVER_BIN, from, to, records);
    const { kills, cuts, kept, faults } = await killAndFinish(world);
    const losses = faults.filter((fault) => fault.includes("lost")).length;
    const violations = faults.length - losses;
    const what = `copy of ${records} records from ${from}, killed or cut off`;
    reportTrials({ id: "copy", test: what, database: to, trials: kills + cuts, unit: "times", losses, violations });
    expect(faults).toEqual([]);
    expect(kills + cuts).toBeGreaterThan(0);
    expect(kept).toBeGreaterThan(0);
  });
});

test("this suite catches a copy that loses rows, and so does the copy itself", { timeout: 120_000 }, async () => {
  const loses = await seedServer(await freshFolder(), COPY_LOSES_ROWS);
  const world = await openWorld(loses, "SQLite", "PostgreSQL", 600);
  await copy(world);
  const faults = (await misread(world)).join("\n");
  const caught = faults.includes("is lost");
  const subject = { id: "copy", test: "copy", database: "PostgreSQL" } as const;
  reportBug({ ...subject, bug: "a copy loses rows, and does not look", caught });
  expect(caught, faults).toBe(true);

  const seen = {
    ...world,
    bin: await seedServer(await freshFolder(), COPY_LOSES_ROWS_SEEN),
    target: await freshPlace("PostgreSQL"),
  };
  const { code, output } = await copy(seen);
  const named = code === 1 && output.includes("The two are not the same, and no server serves the target.");
  reportBug({ ...subject, bug: "a copy loses rows", caught: named });
  expect(named, output).toBe(true);
  expect(await takenForWhole(seen)).toEqual([]);
});
