/** Each kind of overload, tried on a real server: what it came to, and what was wrong. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { MAX_RECORD_BYTES } from "@tacenda/protocol";
import BetterSqlite3 from "better-sqlite3";
import pg from "pg";
import { onTestFinished } from "vitest";

import { freshFolder } from "../server-process.ts";
import type { DatabaseName } from "./databases.ts";
import {
  Clients,
  creation,
  flood,
  noiseRecord,
  rawHead,
  recordPath,
  stall,
  type Answered,
  type Flooded,
} from "./flood.ts";
import { ROOT_TOKEN, STORE } from "./key-world.ts";
import { Onlookers, metricsOf, notRecovered, openOverloadWorld, type OverloadWorld } from "./overload-world.ts";
import { peakMemory } from "./process-figures.ts";
import { garbageToken } from "./tokens.ts";

/** Seconds of a flood. */
export const SECONDS = Number(process.env.TACENDA_OVERLOAD_SECONDS ?? 5);
const MEBIBYTE = 1_048_576;
/** What the process may have at most, in bytes: about 100 MiB when idle, 2 × 128 MiB for bodies and answers, and garbage. */
const MEMORY_BOUND = 512 * MEBIBYTE;

/** The same while answers of 7 MiB are made one after the other: each leaves several copies of itself as garbage. */
export const ANSWERS_BOUND = 576 * MEBIBYTE;

export function tooMuch(peak: number, bound = MEMORY_BOUND): string[] {
  return peak <= bound ? [] : [`the process had ${inMebibytes(peak)}`];
}

export function inMebibytes(bytes: number): string {
  return `${Math.round(bytes / MEBIBYTE)} MiB`;
}

/** More large writes than the disk takes. */
export async function tryFlood(
  database: DatabaseName,
  bin: string,
): Promise<{ faults: string[]; flooded: Flooded; peak: number }> {
  const world = await openOverloadWorld(database, { bin });
  const { server, noisy } = world;
  const onlookers = new Onlookers(world, ["read", "live", "ready", "admin"]);
  const end = performance.now() + SECONDS * 1_000;
  const flooded = await flood(server.url, 300, end, () => creation(noisy, "large"), [201, 503]);
  await onlookers.stop();
  const peak = peakMemory(server.pid);
  const { tacenda_requests_shed_total: shed } = await metricsOf(server, ["tacenda_requests_shed_total"]);
  const faults = [
    ...flooded.faults,
    ...onlookers.faults,
    ...tooMuch(peak),
    ...(shed === (flooded.statuses[503] ?? 0) ? [] : [`${shed} were counted as shed`]),
    ...(await notRecovered(world)),
  ];
  return { faults, flooded, peak };
}

/** Milliseconds for which nothing can be written: longer than a write waits. */
const STUCK = 8_000;
/** Milliseconds within which the server says that it is too busy, two for the wait and the rest for this machine. */
const TOLD = 4_500;

export async function tryStuck(database: DatabaseName, bin: string): Promise<{ faults: string[]; flooded: Flooded }> {
  const world = await openOverloadWorld(database, { bin });
  const { server, noisy } = world;
  const onlookers = new Onlookers(world, ["read", "live", "ready"], 2_000);
  const unlock = await lockWrites(world);
  const end = performance.now() + STUCK;
  const flooding = flood(server.url, 200, end, () => creation(noisy, "small"), [201, 503]);
  await sleep(STUCK);
  await onlookers.stop();
  await unlock();
  const flooded = await flooding;
  const late = flooded.answers.filter(({ milliseconds }) => milliseconds > TOLD);
  // Those that were being worked on waited for the lock, and those that came in their place; all others were told soon.
  const mayBeLate = 2 * 64;
  const faults = [
    ...flooded.faults,
    ...onlookers.faults,
    ...(late.length > mayBeLate ? [`${late.length} were answered after more than ${TOLD} ms`] : []),
    ...(await untrue(world, flooded.answers)),
    ...(await notRecovered(world)),
  ];
  return { faults, flooded };
}

/** What was acknowledged and is not there, or refused and is there. */
async function untrue({ server, quiet }: OverloadWorld, answers: Flooded["answers"]): Promise<string[]> {
  const clients = new Clients(server.url, 16);
  const faults: string[] = [];
  const check = async ({ status, path }: Answered & { path: string }) => {
    const found = await clients.send({ path, token: quiet });
    if (found.status !== (status === 201 ? 200 : 404))
      faults.push(`a write was answered ${status}, and its read ${found.status}`);
  };
  for (let start = 0; start < answers.length; start += 16)
    await Promise.all(answers.slice(start, start + 16).map(check));
  return faults;
}

/** Keeps everybody from writing records, and nobody from reading, as a stuck process or an administrator's command would. */
async function lockWrites({ place }: OverloadWorld): Promise<() => Promise<void>> {
  if (place.databaseUrl === null) {
    const other = new BetterSqlite3(join(place.dataDir, "tacenda.db"));
    onTestFinished(() => void other.close());
    other.exec("begin immediate");
    return () => Promise.resolve(void other.exec("rollback"));
  }
  const client = new pg.Client({ connectionString: place.databaseUrl });
  await client.connect();
  onTestFinished(() => client.end());
  await client.query("begin; lock table records in exclusive mode");
  return async () => {
    await client.query("rollback");
  };
}

export async function tryGarbage(database: DatabaseName, bin: string): Promise<{ faults: string[]; flooded: Flooded }> {
  const world = await openOverloadWorld(database, { bin });
  const { server, place } = world;
  const onlookers = new Onlookers(world, ["read", "live", "ready"]);
  const end = performance.now() + SECONDS * 1_000;
  const flooding = flood(server.url, 200, end, () => ({ path: recordPath(), token: garbageToken() }), [401, 503]);
  const busy = place.databaseUrl === null ? 0 : await mostConnections(place.databaseUrl, end);
  const flooded = await flooding;
  await onlookers.stop();
  const faults = [
    ...flooded.faults,
    ...onlookers.faults,
    // Of ten: two for the made-up ones, and those of the onlookers and of the server itself.
    ...(busy > 7 ? [`the made-up tokens took ${busy} connections to the database`] : []),
    ...tooMuch(peakMemory(server.pid)),
    ...(await notRecovered(world)),
  ];
  return { faults, flooded };
}

/** The most connections that the server had at once. */
async function mostConnections(databaseUrl: string, end: number): Promise<number> {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  let most = 0;
  while (performance.now() < end) {
    const { rows } = await client.query<{ count: number }>(
      "select count(*)::int as count from pg_stat_activity where datname = current_database() and application_name = 'tacenda-server'",
    );
    most = Math.max(most, rows[0]?.count ?? 0);
    await sleep(50);
  }
  await client.end();
  return most;
}

/** Connections that send all of a large body but its end. */
export async function tryBodies(bin: string): Promise<{ peak: number; faults: string[] }> {
  const world = await openOverloadWorld("SQLite", { bin });
  const { server, noisy } = world;
  const onlookers = new Onlookers(world, ["read", "live", "ready", "admin"]);
  const body = noiseRecord(MAX_RECORD_BYTES).subarray(0, MAX_RECORD_BYTES - 1);
  const sockets = await Promise.all(
    Array.from({ length: 500 }, () => stall(server.url, [rawHead(creation(noisy, "large"), MAX_RECORD_BYTES), body])),
  );
  await sleep(4_000);
  // Small ones are written all the same.
  const small = await new Clients(server.url, 1).send(creation(noisy, "small"));
  await onlookers.stop();
  const peak = peakMemory(server.pid);
  for (const socket of sockets) socket.destroy();
  const faults = [...onlookers.faults, ...(small.status === 201 ? [] : [`a small write: ${small.status}`])];
  return { peak, faults: [...faults, ...(await notRecovered(world))] };
}

/** Connections that ask for a large answer and do not read it. */
export async function tryAnswers(bin: string): Promise<{ peak: number; faults: string[] }> {
  const world = await openOverloadWorld("SQLite", { bin });
  const { server, noisy } = world;
  const clients = new Clients(server.url, 1);
  const reads = Array.from({ length: 5 }, (_, index) => ({ key: Buffer.alloc(32, index).toString("base64url") }));
  for (const { key } of reads) await clients.send(creation(noisy, "large", recordPath(key)));
  const body = JSON.stringify({ reads });
  const batch = {
    method: "POST" as const,
    path: `/v1/projects/default/stores/${STORE}/batch`,
    token: noisy,
    headers: { "content-type": "application/json" },
  };
  const onlookers = new Onlookers(world, ["read", "live", "ready", "admin"]);
  const sockets: Socket[] = [];
  while (sockets.length < 80) {
    const socket = await stall(server.url, [rawHead(batch, body.length), body]);
    sockets.push(socket);
    // One after the other: the answers pile up, not the questions.
    const begun = once(socket, "data");
    socket.resume();
    await begun;
    socket.pause();
  }
  await onlookers.stop();
  const peak = peakMemory(server.pid);
  for (const socket of sockets) socket.destroy();
  return { peak, faults: [...onlookers.faults, ...(await notRecovered(world))] };
}

/** Requests while nobody reads what the server writes, and then whether its log tells how much of it is missing. */
export async function tryLog(bin: string): Promise<string[]> {
  const dataDir = join(await freshFolder(), "data");
  const child = spawn(process.execPath, [bin, "--port", "0", "--data-dir", dataDir], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { PATH: process.env.PATH, TACENDA_ROOT_TOKEN: ROOT_TOKEN },
  });
  const closed = once(child, "close");
  onTestFinished(() => void child.kill("SIGKILL"));
  let log = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => (log += part));
  while (!log.includes('"msg":"listening"')) await sleep(20);
  const { url } = JSON.parse(/^\{.*"msg":"listening"\}$/m.exec(log)?.[0] ?? "") as { url: string };
  child.stdout.pause();
  const clients = new Clients(url, 32);
  let requests = 0;
  const ask = async () => {
    for (; requests < 22_000; requests++)
      if ((await clients.send({ path: recordPath() })).status !== 401) throw new Error("Not without a token.");
  };
  await Promise.all(Array.from({ length: 32 }, ask));
  child.stdout.resume();
  await sleep(1_000);
  await clients.send({ path: recordPath() });
  child.kill("SIGTERM");
  await closed;
  const lines = log
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { msg: string; lines?: number });
  const told = lines.filter(({ msg }) => msg === "request").length;
  const missing = lines.reduce((sum, { lines: count = 0 }) => sum + count, 0);
  return [
    ...(missing === 0 ? ["no line is missing: all of it was kept in memory"] : []),
    ...(told + missing >= 22_001 ? [] : [`${told} requests are in the log, and ${missing} are said to be missing`]),
  ];
}
