/** Rounds of key operations under eight writers, each cut off by kill -9 at a random moment and checked after the next start. */

import { randomInt } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { TacendaError, generateSecret } from "@tacenda/sdk";
import type { TacendaAdmin } from "@tacenda/sdk/admin";

import { freshFolder, runCommand, spawnServer, type ServerProcess } from "../server-process.ts";
import { ROOT_TOKEN, STORE, adminOf, fill, mastersInUse, misread, settled, storeOf } from "./key-world.ts";
import { Ledger } from "./ledger.ts";
import { checkValues, writeUntilKilled, type Expectation } from "./writers.ts";

const WRITERS = 8;
/** Milliseconds between the writers' start and the kill. */
const EARLIEST_KILL = 100;
const LATEST_KILL = 1_500;
/** In every other round the kill comes so soon after a new master key: wrapping anew takes no longer. */
const REWRAP_TIME = 60;
/** Milliseconds that the work on keys may take without traffic. */
const PATIENCE = 120_000;
/** Rounds between two looks at everything, by `verify`. */
const ROUNDS_PER_LOOK = 10;
const CONTENTS = { stores: 40, records: 100, versions: 2, bytes: 15_000 };

const CHOICES = ["rotate", "migrate", "reencrypt", "retire", "rotateAndRetire", "destroy"] as const;
type Choice = (typeof CHOICES)[number];

export interface RoundsResult {
  acknowledged: number;
  /** Operations that the server has answered, by name. */
  operations: Record<string, number>;
  /** What kills have cut off. */
  kills: { rewrapping: number; reencrypting: number; idle: number };
  faults: string[];
}

/** `only`: the one operation to make, over and over. */
export async function killInRounds(bin: string, rounds: number, only?: Choice): Promise<RoundsResult> {
  const folder = await freshFolder();
  const dataDir = join(folder, "data");
  const flags = ["one", "two"].flatMap((name) => ["--key-provider", `local:${join(folder, `${name}.json`)}`]);
  const start = () => spawnServer({ bin, dataDir, flags, rootToken: ROOT_TOKEN });
  const secret = generateSecret();
  const ledger = new Ledger();
  const result: RoundsResult = {
    acknowledged: 0,
    operations: {},
    kills: { rewrapping: 0, reencrypting: 0, idle: 0 },
    faults: [],
  };
  const { faults } = result;
  const verify = async () => {
    const { code, output } = await runCommand(["verify", "--data-dir", dataDir, ...flags], { bin });
    if (code !== 0) faults.push(`verify ends with ${code}: ${output}`);
  };
  let server = await start();
  const rows = await fill(server.url, secret, CONTENTS, ledger.fetch);
  for (let round = 0; round < rounds; round++) {
    const expected = new Map<string, Expectation>();
    const writing = storeOf(server.url, secret, STORE, { fetch: ledger.fetch, maxAttempts: 1 });
    const writers = Array.from({ length: WRITERS }, (_, writer) =>
      writeUntilKilled(writing, `round-${round}-writer-${writer}`, expected),
    );
    const rewraps = new EventEmitter();
    const operating = operateUntilKilled(adminOf(server.url, { maxAttempts: 1 }), result, rewraps, only);
    await sleep(randomInt(EARLIEST_KILL, LATEST_KILL));
    if (round % 2 === 0) {
      await Promise.race([once(rewraps, "begin"), sleep(LATEST_KILL)]);
      await sleep(randomInt(REWRAP_TIME));
    }
    await server.end("SIGKILL");
    faults.push(...(await Promise.all([...writers, operating])).flat());
    if (round % ROUNDS_PER_LOOK === 0) await verify();
    server = await start();
    faults.push(...(await checkValues(storeOf(server.url, secret, STORE, { maxAttempts: 1 }), expected)));
    await noteKill(server, result);
    if (faults.length > 0) return result;
  }
  faults.push(...(await finish(adminOf(server.url)).catch((error: unknown) => [String(error)])));
  faults.push(...(await ledger.audit(server.url, ROOT_TOKEN)), ...(await misread(server.url, secret, rows)));
  await server.end("SIGTERM");
  await verify();
  return Object.assign(result, { acknowledged: ledger.acknowledged });
}

/** One operation after the other. */
async function operateUntilKilled(
  admin: TacendaAdmin,
  { operations }: RoundsResult,
  rewraps: EventEmitter,
  only?: Choice,
): Promise<string[]> {
  const { keys } = admin;
  const rotate = async () => {
    rewraps.emit("begin");
    await keys.rotate();
  };
  const retire = () => everyEarlier(admin, "enabled", (query) => keys.retire(query));
  const choices: Readonly<Record<Choice, () => Promise<unknown>>> = {
    rotate,
    migrate: async () => {
      const to = (await keys.status()).providers.find(({ active }) => !active)?.id ?? "";
      rewraps.emit("begin");
      await keys.migrate(to);
    },
    reencrypt: () => keys.rotateData(STORE, { reencrypt: true }),
    retire,
    // Too early, mostly: that is refused.
    rotateAndRetire: () => rotate().then(retire),
    destroy: () => everyEarlier(admin, "retired", (query) => keys.destroy(query)),
  };
  for (;;) {
    const name = only ?? CHOICES[randomInt(CHOICES.length)] ?? "rotate";
    try {
      await choices[name]();
      operations[name] = (operations[name] ?? 0) + 1;
      await sleep(randomInt(100));
    } catch (error) {
      if (TacendaError.is(error, "server_unreachable")) return [];
      // Not wrapped anew yet.
      if (TacendaError.is(error, "key_in_use")) continue;
      return [`${name}: ${String(error)}`];
    }
  }
}

async function everyEarlier(
  { keys }: TacendaAdmin,
  state: "enabled" | "retired",
  operate: (query: { provider: string; version: number }) => Promise<unknown>,
): Promise<void> {
  for (const { id, currentVersion, versions } of (await keys.status()).providers) {
    const earlier = versions.filter((one) => one.state === state && one.version !== currentVersion);
    for (const { version } of earlier) await operate({ provider: id, version });
  }
}

/** What the killed server was busy with, by what the next one has taken up. */
async function noteKill(server: ServerProcess, { kills, faults }: RoundsResult): Promise<void> {
  const { reencryptions, failure } = await adminOf(server.url).keys.status();
  if (failure !== null) faults.push(`the work on keys has failed: ${failure}`);
  const rewrapped = server.output().includes("wrapped anew");
  const reencrypted = reencryptions.length > 0 || server.output().includes("re-encrypt");
  if (rewrapped) kills.rewrapping++;
  if (reencrypted) kills.reencrypting++;
  if (!rewrapped && !reencrypted) kills.idle++;
}

/** Once more from begin to end: nothing is in the way of anything. */
async function finish(admin: TacendaAdmin): Promise<string[]> {
  await settled(admin, PATIENCE);
  await admin.keys.rotate();
  await admin.keys.rotateData(STORE, { reencrypt: true });
  const used = mastersInUse(await settled(admin, PATIENCE));
  await everyEarlier(admin, "enabled", (query) => admin.keys.retire(query));
  const keys = (await admin.keys.ofStore(STORE)).keys.length;
  return [
    ...(used.length === 1 ? [] : [`${used.length} master keys are in use in the end`]),
    ...(keys === 2 ? [] : [`the store has ${keys} keys in the end`]),
  ];
}
