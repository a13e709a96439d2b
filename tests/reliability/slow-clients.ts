/** Many slow and endless clients on a server, and others who must not notice. */

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { encodeKeyHash, isErrorCode } from "@tacenda/protocol";
import { onTestFinished } from "vitest";

import { randomRecordPath, sealedRecord } from "../../packages/server/test/world.ts";
import { freshFolder, spawnServer, type ServerProcess } from "../server-process.ts";
import { ROOT_TOKEN, adminOf } from "./key-world.ts";
import { forgetPeak, memory, openFiles, peakMemory } from "./process-figures.ts";
import type { Cut, Orders } from "./slow/attackers.ts";
import { KINDS, type Kind } from "./slow/kinds.ts";

const STORE = "/v1/projects/default/stores/kept";
const OTHERS = 4;
/** Records whose bytes no system's buffers hold together. */
const LARGE = 7;
const LARGE_BYTES = 1_000_000;
/** Milliseconds beyond a limit within which a connection must have been ended, on a busy machine. */
const SLACK = 6_000;
/** Bytes that a server may need besides what limits allow its clients. */
const MEMORY_SLACK = 200 * 1_048_576;

/** What the server under attack allows, in milliseconds. */
export interface Limits {
  headers: number;
  request: number;
  inactivity: number;
}

export type Counts = Readonly<Record<Kind, number>>;

export const MANY: Counts = { headers: 150, body: 150, endless: 20, stranger: 20, unread: 8 };
/** Enough to show that a bug is seen, without those that take longest. */
export const FEW: Counts = { headers: 30, body: 30, endless: 10, stranger: 5, unread: 0 };

export function total(counts: Counts): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

export interface SlowWorld {
  server: ServerProcess;
  orders: Orders;
  limits: Limits;
}

export async function openSlowWorld(bin: string, limits: Limits, counts = MANY): Promise<SlowWorld> {
  const server = await spawnServer({ bin, dataDir: join(await freshFolder(), "data"), rootToken: ROOT_TOKEN });
  const admin = adminOf(server.url);
  await admin.stores.create("kept");
  const grants = [{ stores: ["*"], permissions: ["read" as const, "write" as const] }];
  const { token } = await admin.tokens.create("slow", grants);
  const hashes = Array.from({ length: LARGE }, () => encodeKeyHash(crypto.getRandomValues(new Uint8Array(32))));
  const headers = {
    authorization: `Bearer ${token}`,
    "content-type": "application/octet-stream",
    "if-none-match": "*",
  };
  for (const hash of hashes) {
    const body = sealedRecord({ length: LARGE_BYTES }) as BodyInit;
    const { status } = await fetch(`${server.url}${STORE}/records/${hash}`, { method: "PUT", headers, body });
    if (status !== 201) throw new Error(`A large record was answered ${status}.`);
  }
  const target = { port: Number(new URL(server.url).port), token, store: STORE, hashes };
  return { server, limits, orders: { target, counts, patience: limits.inactivity + SLACK } };
}

/** Reads and writes small records for so long. Gives how long each took in milliseconds, and what went wrong. */
export async function othersFor({ server, orders }: SlowWorld, until: () => boolean) {
  const times: number[] = [];
  const faults: string[] = [];
  const headers = { authorization: `Bearer ${orders.target.token}` };
  const one = async () => {
    const path = randomRecordPath("kept");
    const body = sealedRecord() as BodyInit;
    for (let version = 1; !until(); version++) {
      const precondition: Record<string, string> =
        version === 1 ? { "if-none-match": "*" } : { "if-match": `"${version - 1}"` };
      const write = { ...headers, ...precondition, "content-type": "application/octet-stream" };
      for (const init of [{ method: "PUT", headers: write, body }, { headers }]) {
        const begun = performance.now();
        const answer = await fetch(server.url + path, init).catch(String);
        const { ok, status } = typeof answer === "string" ? { ok: false, status: answer } : answer;
        if (typeof answer !== "string") await answer.arrayBuffer();
        times.push(performance.now() - begun);
        if (!ok) faults.push(`somebody else's ${init.method ?? "GET"} was answered ${status}`);
      }
    }
  };
  await Promise.all(Array.from({ length: OTHERS }, one));
  return { times, faults };
}

export class Attack {
  readonly cuts: Cut[] = [];
  readonly #count: number;
  readonly #child: ChildProcess;
  readonly #connected: Promise<void>;
  readonly #ended: Promise<unknown>;

  constructor({ orders }: SlowWorld) {
    this.#count = total(orders.counts);
    const script = join(import.meta.dirname, "slow/attackers.ts");
    this.#child = spawn(process.execPath, [script, JSON.stringify(orders)], { stdio: ["ignore", "pipe", "inherit"] });
    this.#ended = once(this.#child, "close");
    onTestFinished(() => this.end());
    let rest = "";
    let connected: () => void = () => undefined;
    this.#connected = new Promise((resolve) => (connected = resolve));
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const said = JSON.parse(line) as Cut | { connected: true };
        if ("connected" in said) connected();
        else this.cuts.push(said);
      }
    });
  }

  async connected(): Promise<void> {
    await Promise.race([this.#connected, this.#ended]);
  }

  get isOver(): boolean {
    return this.cuts.length === this.#count;
  }

  async end(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }
}

/** Attacks until every attacker was cut off, or should have been. Gives what went wrong. */
export async function attackToTheEnd(world: SlowWorld): Promise<string[]> {
  const { server, limits, orders } = world;
  const { counts } = orders;
  const longest = counts.unread > 0 ? limits.inactivity : limits.request;
  const before = { files: openFiles(server.pid), memory: memory(server.pid) };
  forgetPeak(server.pid);
  const attack = new Attack(world);
  await attack.connected();
  const deadline = performance.now() + longest + SLACK + 1_000;
  const { faults } = await othersFor(world, () => attack.isOver || performance.now() > deadline);
  for (const kind of KINDS) faults.push(...judgeCuts(kind, attack.cuts, world));
  const grown = peakMemory(server.pid) - before.memory;
  console.log(`grew by ${Math.round(grown / 1_048_576)} MiB`, summary(attack.cuts));
  if (grown > mayHold(counts)) faults.push(`the server grew by ${Math.round(grown / 1_048_576)} MiB`);
  await attack.end();
  // A moment for what is closed on one side only.
  for (let tries = 0; tries < 100 && openFiles(server.pid) > before.files + 2 * OTHERS; tries++) await sleep(100);
  const left = openFiles(server.pid) - before.files;
  if (left > 2 * OTHERS) faults.push(`the server still holds ${left} connections`);
  return [...new Set(faults)];
}

/** What its limits let those clients make it hold: the body that is read, and the answer with what it is made of. */
function mayHold({ endless, unread }: Counts): number {
  return MEMORY_SLACK + endless * 2 * 1_081_435 + unread * 4 * LARGE * LARGE_BYTES;
}

function judgeCuts(kind: Kind, cuts: readonly Cut[], { limits, orders }: SlowWorld): string[] {
  const own = cuts.filter((cut) => cut.kind === kind);
  const left = orders.counts[kind] - own.length;
  const faults = left > 0 ? [`${left} of kind ${kind} were not cut off`] : [];
  const limit = {
    headers: limits.headers,
    body: limits.request,
    endless: limits.request,
    stranger: limits.request,
    unread: Infinity,
  };
  for (const { after, answer, length } of own) {
    if (after > limit[kind] + SLACK) faults.push(`${kind}: cut off too late`);
    const status = /^HTTP\/1\.1 (\d{3}) /.exec(answer)?.[1] ?? "none";
    if (!EXPECTED[kind].includes(status)) faults.push(`${kind}: answered ${status}`);
    if (status !== "none" && status !== "200" && !isErrorCode(/"code":"(\w+)"/.exec(answer)?.[1]))
      faults.push(`${kind}: no error`);
    if (kind === "unread" && length > LARGE * LARGE_BYTES)
      faults.push("unread: the whole answer was kept for who did not read it");
  }
  return faults;
}

/** What each kind is told; who reads nothing may not be told anything. */
const EXPECTED: Readonly<Record<Kind, readonly string[]>> = {
  headers: ["408"],
  body: ["408", "503"],
  endless: ["413", "503"],
  stranger: ["401"],
  unread: ["200", "503", "none"],
};

function summary(cuts: readonly Cut[]): Record<string, string> {
  return Object.fromEntries(
    KINDS.map((kind) => {
      const times = cuts.filter((cut) => cut.kind === kind).map(({ after }) => after);
      return [kind, `${times.length} after ${Math.min(...times)} to ${Math.max(...times)} ms`];
    }),
  );
}

export function quantile(times: readonly number[], share: number): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}
