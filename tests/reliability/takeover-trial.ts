/** One server is killed or stopped in the middle of its work; another finishes it, and the first, when it goes on, does no harm. */

import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { generateSecret } from "@tacenda/sdk";

import { runCommand, spawnServer, type ServerProcess } from "../server-process.ts";
import { freshPlace, sharedCluster } from "./databases.ts";
import { ROOT_TOKEN, misread } from "./key-world.ts";
import { flagsIn, holdAt, prepare, type Work, type World } from "./takeover-works.ts";

/** Milliseconds in which the owner comes to where it is held up. */
const ARRIVAL = 60_000;
/** Milliseconds for which it is watched when it goes on. */
const AFTERMATH = 3_000;
const POLL = 50;

export interface Trial {
  faults: string[];
  /** Milliseconds from the other server's start until the work is done; null when it is not. */
  took: number | null;
}

/** `T` is stopped, `Z` dead and not yet collected; null when it is gone. */
export async function stateOf(pid: number): Promise<string | null> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  // Behind the name, which stands in parentheses.
  return text?.slice(text.lastIndexOf(")") + 2, text.lastIndexOf(")") + 3) ?? null;
}

/** Waits until a process is stopped, or dead. @throws {Error} when that does not come. */
export async function untilHeld(pid: number): Promise<void> {
  const started = performance.now();
  for (;;) {
    const state = await stateOf(pid);
    if (state === null || "TZ".includes(state)) return;
    if (performance.now() - started > ARRIVAL) throw new Error("the server did not come past this place");
    await sleep(20);
  }
}

async function until(isDone: () => Promise<boolean>, limit: number): Promise<number | null> {
  const started = performance.now();
  while (!(await isDone())) {
    if (performance.now() - started > limit) return null;
    await sleep(POLL);
  }
  return Math.round(performance.now() - started);
}

/** `limit`: milliseconds within which the other server has to be done. */
export async function takeOver(
  bin: string,
  work: Work,
  text: string,
  signal: "SIGKILL" | "SIGSTOP",
  limit: number,
): Promise<Trial> {
  const place = await freshPlace("PostgreSQL");
  const cluster = await sharedCluster();
  const secret = generateSecret();
  const flags = flagsIn(place.dataDir);
  const start = (more: Readonly<Record<string, string>> = {}) =>
    spawnServer({ bin, dataDir: place.dataDir, rootToken: ROOT_TOKEN, flags, env: { ...place.env, ...more } });
  const count = async (query: string) =>
    Number(Object.values((await cluster.query(query, place.databaseUrl ?? ""))[0] ?? {})[0] ?? 0);
  const world: World = { place, secret, count };

  const owner = await start(holdAt(text, signal));
  const rows = await prepare(owner.url, secret);
  // What stops it may come before its answer.
  const begun = work.begin(world, owner).catch(() => undefined);
  await untilHeld(owner.pid);
  const other = await start();
  const took = await until(() => work.isDone(world, other), limit);
  if (took === null) return { took, faults: ["the work is not done in time"] };
  await work.meanwhile?.(world, other);
  const faults: string[] = [];
  if (signal === "SIGSTOP") {
    process.kill(owner.pid, "SIGCONT");
    const harm = await until(async () => (await work.hasHarm?.(world, other)) ?? false, AFTERMATH);
    if (harm !== null) faults.push("the owner went on and did harm");
  }
  await begun;
  faults.push(...(await work.faults(world, other)));
  const servers: ServerProcess[] = signal === "SIGSTOP" ? [owner, other] : [other];
  for (const { url } of servers) faults.push(...(await misread(url, secret, rows)));
  await Promise.all(servers.map((server) => server.end("SIGTERM")));
  const { code, output } = await runCommand(["verify", "--data-dir", place.dataDir, ...flags.slice(0, 4)], {
    env: place.env,
  });
  return { took, faults: code === 0 ? faults : [...faults, `verify ends with ${code}: ${output}`] };
}
