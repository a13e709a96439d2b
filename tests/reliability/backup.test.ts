/**
 * A backup made while eight writers write, killed a few times and run again, restored elsewhere and read: everything that
 * was acknowledged before is there, and batches are whole. What is missing or wrong is refused, and named.
 */

import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, generateSecret, type Store } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { describe, expect, test } from "vitest";

import { seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder, runCommand, spawnServer } from "../server-process.ts";
import { BACKUP_WITHOUT_SNAPSHOT } from "./seeded-bugs.ts";

const ROOT_TOKEN = "root-token-of-the-backup-test-0123456789abcdef";
const WRITERS = 8;
const PAIRS_EACH = 3;
/** What is there before, so that a backup takes a while. */
const BALLAST = 500;
const BALLAST_BYTES = 40_000;
const KILLS = 3;
/** By how much a backup's file grows before the backup is killed. */
const KILL_BYTES = 500_000;

interface World {
  bin: string;
  folder: string;
  dataDir: string;
  keyring: string;
  secret: string;
  url: string;
}

const storeOf = ({ url, secret }: Pick<World, "url" | "secret">, name = "kept") =>
  new Tacenda({ url, token: ROOT_TOKEN }).getStore(name, { secret, stretch: "store" });

async function openWorld(bin: string, ballast: number): Promise<World> {
  const folder = await freshFolder();
  const dataDir = join(folder, "data");
  const { url } = await spawnServer({ bin, dataDir, rootToken: ROOT_TOKEN });
  const secret = generateSecret();
  const admin = new TacendaAdmin({ url, token: ROOT_TOKEN });
  for (const id of ["kept", "doomed"]) await admin.stores.create(id);
  const world = { bin, folder, dataDir, keyring: join(dataDir, "keyring.json"), secret, url };
  await storeOf(world, "doomed").setValue("key", "value");
  const names = Array.from({ length: ballast }, (_, index) => `ballast-${index}`);
  for (let start = 0; start < ballast; start += 50) {
    const part = names.slice(start, start + 50);
    await storeOf(world).setValues(part.map((name) => [name, name.padEnd(BALLAST_BYTES, "=")] as const));
  }
  return world;
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
async function backUpAndKill({ bin, dataDir }: World, target: string): Promise<void> {
  const file = join(target, "records.jsonl.partial");
  const size = () => (existsSync(file) ? statSync(file).size : 0);
  const before = size();
  const { code, output } = await runCommand(["backup", target, "--data-dir", dataDir], {
    bin,
    until: async (running) => {
      while (running() && size() < before + KILL_BYTES) await sleep(1);
    },
  });
  expect(code, `it was done before it could be killed: ${output}`).toBeNull();
}

/** What is wrong with the values of a restored store. */
async function faultsOf(store: Store, acknowledged: Acknowledged): Promise<string[]> {
  const faults: string[] = [];
  const keys = [...acknowledged.keys()];
  const values = new Map<string, string | null>();
  for (let start = 0; start < keys.length; start += 100) {
    for (const [key, value] of await store.getValues(keys.slice(start, start + 100))) values.set(key, value);
  }
  for (const [key, count] of acknowledged) {
    if (Number(values.get(key) ?? 0) < count) faults.push(`${key} was acknowledged before the backup and is lost`);
  }
  for (let writer = 0; writer < WRITERS; writer++) {
    for (let pair = 0; pair < PAIRS_EACH; pair++) {
      const [left, right] = pairOf(writer, pair);
      if (values.get(left) !== values.get(right)) faults.push(`${left} and its fellow are of two batches`);
    }
  }
  return faults;
}

/** Backs up under load, after `kills` attempts that were killed. Gives what was acknowledged before the last began. */
async function backUpUnderLoad(world: World, target: string, kills: number): Promise<Acknowledged> {
  const { bin, dataDir } = world;
  const acknowledged: Acknowledged = new Map();
  const stop = new AbortController();
  const store = storeOf(world);
  const writers = Array.from({ length: WRITERS }, (_, writer) => write(store, writer, acknowledged, stop.signal));
  try {
    while (acknowledged.size < WRITERS * (1 + 2 * PAIRS_EACH)) await sleep(20);
    for (let kill = 0; kill < kills; kill++) await backUpAndKill(world, target);
    const before = new Map(acknowledged);
    const { code, output } = await runCommand(["backup", target, "--data-dir", dataDir], { bin });
    expect(output).toContain("Backed up 2 stores");
    expect(code).toBe(0);
    if (kills > 0) expect(Number(/Of these, (\d+) records/.exec(output)?.[1])).toBeGreaterThan(20);
    return before;
  } finally {
    stop.abort();
    await Promise.all(writers);
  }
}

/** Restores elsewhere and reads everything. */
async function restoreAndRead(world: World, target: string, before: Acknowledged): Promise<string[]> {
  const { bin, keyring, folder, secret } = world;
  const dataDir = join(folder, "restored");
  const restored = await runCommand(["restore", target, "--data-dir", dataDir, "--keyring", keyring], { bin });
  expect(restored.output).toContain("Restored 2 stores");
  expect(restored.code).toBe(0);
  const { url } = await spawnServer({ bin, dataDir, rootToken: ROOT_TOKEN, flags: ["--keyring", keyring] });
  const faults = await faultsOf(storeOf({ url, secret }), before);
  expect(await storeOf({ url, secret }).getValue("ballast-7")).toBe("ballast-7".padEnd(BALLAST_BYTES, "="));
  return faults;
}

describe(`a backup under ${WRITERS} writers`, () => {
  test(`killed ${KILLS} times, is restored elsewhere with all that was acknowledged`, { timeout: 60_000 }, async () => {
    const world = await openWorld(SERVER_BIN, BALLAST);
    const { folder, dataDir, keyring } = world;
    const target = join(folder, "backup");
    const before = await backUpUnderLoad(world, target, KILLS);
    expect(await restoreAndRead(world, target, before)).toEqual([]);

    for (const what of [
      ["--data-dir", dataDir],
      ["--data-dir", join(folder, "restored"), "--keyring", keyring],
      ["--backup", target, "--keyring", keyring],
    ]) {
      const { code, output } = await runCommand(["verify", ...what]);
      expect(output).toContain("everything opens");
      expect(code).toBe(0);
    }

    // Refused: without the keyring, with another one, into a place that is taken, over a finished backup.
    const elsewhere = join(folder, "elsewhere");
    await (await spawnServer({ dataDir: join(folder, "other") })).end("SIGTERM");
    const other = join(folder, "other", "keyring.json");
    for (const [args, sentence] of [
      [["restore", target, "--data-dir", elsewhere], `There is no keyring at ${join(elsewhere, "keyring.json")}`],
      [["restore", target, "--data-dir", elsewhere, "--keyring", other], "This is another keyring: it is local:"],
      [["restore", target, "--data-dir", join(folder, "other"), "--keyring", keyring], "There is a database in this"],
      [["backup", target, "--data-dir", dataDir], "holds a finished backup"],
      [
        ["backup", join(dataDir, "inside"), "--data-dir", dataDir],
        "A backup inside the data directory is lost with it",
      ],
      [["backup", join(folder, "none"), "--data-dir", join(folder, "nowhere")], "There is no database in"],
    ] as const) {
      const { code, output } = await runCommand(args);
      expect(output).toContain(sentence);
      expect(output).toMatch(/^tacenda-server: [^\n{]*\n$/);
      expect(code).not.toBe(0);
    }
    expect(existsSync(elsewhere)).toBe(false);

    // Destroyed since: its records do not open with the present keys, all others do.
    await new TacendaAdmin({ url: world.url, token: ROOT_TOKEN }).stores.delete("doomed");
    const newer = join(folder, "newer");
    expect((await runCommand(["backup", newer, "--data-dir", dataDir])).code).toBe(0);
    const keys = ["--keys", join(newer, "keys.jsonl"), "--keyring", keyring];
    const shredded = await runCommand(["restore", target, "--data-dir", join(folder, "shredded"), ...keys]);
    expect(shredded.output).toContain("Store default/doomed has no keys");
    expect(shredded.output).toContain("Restored 1 stores");
    expect(shredded.code).toBe(0);
    expect((await runCommand(["verify", "--backup", target, ...keys])).output).toContain("everything opens");
  });

  test("this suite catches a backup that is not of one state", { timeout: 60_000 }, async () => {
    const world = await openWorld(await seedServer(await freshFolder(), [BACKUP_WITHOUT_SNAPSHOT]), BALLAST / 2);
    const target = join(world.folder, "backup");
    const before = await backUpUnderLoad(world, target, 0);
    // It shows in what was read, or already in a body that is not the one its record had announced.
    const seen = await restoreAndRead(world, target, before).then((faults) => faults.join("\n"), String);
    expect(seen).toMatch(/are of two batches|is damaged at line/);
  });
});
