/** A server under more load than it takes on, and those who must not notice: other tokens' readers, health probes, administrators. */

import { setTimeout as sleep } from "node:timers/promises";

import { SERVER_BIN, spawnServer, type ServerProcess } from "../server-process.ts";
import { freshPlace, type DatabaseName, type Place } from "./databases.ts";
import { Clients, creation, recordPath } from "./flood.ts";
import { ROOT_TOKEN, STORE, adminOf } from "./key-world.ts";

/** Milliseconds after a flood within which all is as before. */
const RECOVERY = 15_000;
/** Milliseconds between two looks of an onlooker. */
const PAUSE = 50;

export interface OverloadWorld {
  server: ServerProcess;
  place: Place;
  /** Tokens for the store, of one who floods and of one who does not. */
  noisy: string;
  quiet: string;
  /** A record that is there. */
  known: string;
}

export async function openOverloadWorld(
  database: DatabaseName,
  { flags = [], bin = SERVER_BIN }: { flags?: readonly string[]; bin?: string } = {},
): Promise<OverloadWorld> {
  const place = await freshPlace(database);
  const server = await spawnServer({ ...place, bin, rootToken: ROOT_TOKEN, flags: ["--metrics-port", "0", ...flags] });
  const admin = adminOf(server.url);
  await admin.stores.create(STORE);
  const mint = async (name: string) =>
    (await admin.tokens.create(name, [{ stores: [STORE], permissions: ["read", "write"] }])).token;
  const world = { server, place, noisy: await mint("noisy"), quiet: await mint("quiet"), known: recordPath() };
  const written = await new Clients(server.url, 1).send(creation(world.quiet, "small", world.known));
  if (written.status !== 201) throw new Error(`The first write was answered ${written.status}.`);
  return world;
}

/** Looks at what must go on, again and again. `limit`: milliseconds that an answer may take in the middle, on a busy machine. */
export class Onlookers {
  readonly faults: string[] = [];
  readonly #stop = new AbortController();
  readonly #all: Promise<unknown>;

  constructor(
    { server, quiet, known }: OverloadWorld,
    looks: readonly ("read" | "live" | "ready" | "admin")[],
    limit = 5_000,
  ) {
    const targets = {
      read: { path: known, token: quiet },
      live: { path: "/livez" },
      ready: { path: "/readyz" },
      admin: { path: "/v1/projects/default/stores", token: ROOT_TOKEN },
    };
    this.#all = Promise.all(looks.map((name) => this.#look(server.url, name, targets[name], limit)));
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#all;
  }

  async #look(url: string, name: string, target: { path: string; token?: string }, limit: number): Promise<void> {
    const clients = new Clients(url, 1);
    const times: number[] = [];
    while (!this.#stop.signal.aborted) {
      try {
        const { status, body, milliseconds } = await clients.send(target);
        times.push(milliseconds);
        if (status !== 200) this.faults.push(`${name}: ${status} ${body}`);
      } catch (error) {
        this.faults.push(`${name}: ${String(error)}`);
      }
      await sleep(PAUSE);
    }
    const median = times.sort((one, other) => one - other)[times.length >> 1];
    if (median === undefined || median > limit) this.faults.push(`${name} took ${median ?? Infinity} ms`);
  }
}

/** That a write, a read and a probe succeed again, and that nothing is held. Gives what is still wrong. */
export async function notRecovered(world: OverloadWorld): Promise<string[]> {
  const { server, noisy, quiet, known } = world;
  const clients = new Clients(server.url, 4);
  const deadline = performance.now() + RECOVERY;
  for (;;) {
    const answers = await Promise.all([
      clients.send(creation(noisy, "small")),
      clients.send(creation(quiet, "large")),
      clients.send({ path: known, token: quiet }),
      clients.send({ path: "/readyz" }),
    ]);
    const held = await metricsOf(server, [
      "tacenda_requests_working",
      "tacenda_requests_waiting",
      "tacenda_body_memory_bytes",
    ]);
    const faults = [
      ...answers.flatMap(({ status }, index) =>
        status === [201, 201, 200, 200][index] ? [] : [`${index}: ${status}`],
      ),
      ...Object.entries(held).flatMap(([name, value]) => (value === 0 ? [] : [`${name} is ${value}`])),
    ];
    if (faults.length === 0 || performance.now() > deadline) return faults;
    await sleep(200);
  }
}

/** Values of metrics without labels. */
export async function metricsOf<Name extends string>(
  { metricsUrl }: ServerProcess,
  names: readonly Name[],
): Promise<Record<Name, number>> {
  const text = await (await fetch(metricsUrl ?? "")).text();
  const values = names.map((name) => [name, Number(new RegExp(`^${name} (.*)$`, "m").exec(text)?.[1])]);
  return Object.fromEntries(values) as Record<Name, number>;
}
