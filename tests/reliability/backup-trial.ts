/** A server under load that is backed up, and the backup restored elsewhere and read. */

import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, generateSecret, type Store } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { expect } from "vitest";

import { freshFolder, runCommand, spawnServer } from "../server-process.ts";
import { freshPlace, type DatabaseName, type Place } from "./databases.ts";

export const ROOT_TOKEN = "root-token-of-the-backup-test-0123456789abcdef";
export const WRITERS = 8;
const PAIRS_EACH = 3;
const BALLAST_BYTES = 40_000;
/** By how much a backup's file grows before the backup is killed. */
const KILL_BYTES = 500_000;

export interface World {
  bin: string;
  /** For backups. */
  folder: string;
  place: Place;
  keyring: string;
  secret: string;
  url: string;
}

const storeOf = ({ url, secret }: Pick<World, "url" | "secret">, name = "kept") =>
  new Tacenda({ url, token: ROOT_TOKEN }).getStore(name, { secret, stretch: "store" });

/** @param ballast Values that are there before, so that a backup takes a while. */
export async function openWorld(bin: string, database: DatabaseName, ballast: number): Promise<World> {
  const folder = await freshFolder();
  const place = await freshPlace(database);
  const { url } = await spawnServer({ bin, ...place, rootToken: ROOT_TOKEN });
  const secret = generateSecret();
  const admin = new TacendaAdmin({ url, token: ROOT_TOKEN });
  for (const id of ["kept", "doomed"]) await admin.stores.create(id);
  const world = { bin, folder, place, keyring: join(place.dataDir, "keyring.json"), secret, url };
  await storeOf(world, "doomed").setValue("key", "value");
  const names = Array.from({ length: ballast }, (_, index) => `ballast-${index}`);
  for (let start = 0; start < ballast; start += 50) {
    const part = names.slice(start, start + 50);
    await storeOf(world).setValues(part.map((name) => [name, name.padEnd(BALLAST_BYTES, "=")] as const));
  }
  return world;
}

/** Runs a command on a place: its `--data-dir` and its database are given. */
export async function runOn(place: Place, args: readonly string[], options: Parameters<typeof runCommand>[1] = {}) {
  return await runCommand([...args, "--data-dir", place.dataDir], { ...options, env: place.env });
}

/** Keys and the number of the last value that was acknowledged. */
type Acknowledged = Map<string, number>;

/** Writes single values, and pairs of equal values in one batch, until it is told to stop. */
async function write(store: Store, writer: number, acknowledged: Acknowledged, stop: AbortSignal): Promise<void> {
  for (let count = 1; !stop.aborted; count++) {
    const single = `single-${writer}-${count % 20}`;
    await store.setValue(single, String(count));
    acknowledged.set(single, count);
    const [left, right] = pairOf(writer, count % PAIRS_EACH);
    await store.setValues({ [left]: String(count), [right]: String(count) });
    acknowledged.set(left, count).set(right, count);
  }
}

function pairOf(writer: number, pair: number): [left: string, right: string] {
  return [`pair-${writer}-${pair}-left`, `pair-${writer}-${pair}-right`];
}

/** Kills the backup once its file has grown. */
async function backUpAndKill({ bin, place }: World, target: string): Promise<void> {
  const file = join(target, "records.jsonl.partial");
  const size = () => (existsSync(file) ? statSync(file).size : 0);
  const before = size();
  const { code, output } = await runOn(place, ["backup", target], {
    bin,
    until: async (running) => {
      while (running() && size() < before + KILL_BYTES) await sleep(1);
    },
  });
  expect(code, `it was done before it could be killed: ${output}`).toBeNull();
}

/** Backs up under load, after `kills` attempts that were killed. Gives what was acknowledged before the last began. */
export async function backUpUnderLoad(world: World, target: string, kills: number): Promise<Acknowledged> {
  const { bin, place } = world;
  const acknowledged: Acknowledged = new Map();
  const stop = new AbortController();
  const store = storeOf(world);
  const writers = Array.from({ length: WRITERS }, (_, writer) => write(store, writer, acknowledged, stop.signal));
  try {
    while (acknowledged.size < WRITERS * (1 + 2 * PAIRS_EACH)) await sleep(20);
    for (let kill = 0; kill < kills; kill++) await backUpAndKill(world, target);
    const before = new Map(acknowledged);
    const { code, output } = await runOn(place, ["backup", target], { bin });
    expect(output).toContain("Backed up 2 stores");
    expect(code).toBe(0);
    if (kills > 0) expect(Number(/Of these, (\d+) records/.exec(output)?.[1])).toBeGreaterThan(6 * kills);
    return before;
  } finally {
    stop.abort();
    await Promise.all(writers);
  }
}

export interface Restored {
  place: Place;
  /** What was acknowledged before the backup and is not there. */
  losses: string[];
  /** What else is wrong. */
  faults: string[];
}

/** Restores elsewhere and reads everything. */
export async function restoreAndRead(
  world: World,
  target: string,
  before: Acknowledged,
  to: DatabaseName,
): Promise<Restored> {
  const { bin, keyring, secret } = world;
  const place = await freshPlace(to);
  const restored = await runOn(place, ["restore", target, "--keyring", keyring], { bin });
  if (restored.code !== 0 || !restored.output.includes("Restored 2 stores")) {
    return { place, losses: [], faults: [`it could not be restored: ${restored.output}`] };
  }
  const server = await spawnServer({ bin, ...place, rootToken: ROOT_TOKEN, flags: ["--keyring", keyring] });
  const store = storeOf({ url: server.url, secret });
  const found = await judgeValues(store, before);
  const ballast = await store.getValue("ballast-7");
  if (ballast !== "ballast-7".padEnd(BALLAST_BYTES, "=")) found.losses.push("ballast-7 reads otherwise");
  await server.end("SIGTERM");
  return { place, ...found };
}

/** What is wrong with the values of a restored store. */
async function judgeValues(store: Store, acknowledged: Acknowledged): Promise<Omit<Restored, "place">> {
  const losses: string[] = [];
  const faults: string[] = [];
  const keys = [...acknowledged.keys()];
  const values = new Map<string, string | null>();
  for (let start = 0; start < keys.length; start += 100) {
    for (const [key, value] of await store.getValues(keys.slice(start, start + 100))) values.set(key, value);
  }
  for (const [key, count] of acknowledged) {
    if (Number(values.get(key) ?? 0) < count) losses.push(`${key} was acknowledged before the backup and is lost`);
  }
  for (let writer = 0; writer < WRITERS; writer++) {
    for (let pair = 0; pair < PAIRS_EACH; pair++) {
      const [left, right] = pairOf(writer, pair);
      if (values.get(left) !== values.get(right)) faults.push(`${left} and its fellow are of two batches`);
    }
  }
  return { losses, faults };
}
