/** Servers as an operator runs them: one on SQLite, or several on one PostgreSQL, each started again when it has ended. */

import { setTimeout as sleep } from "node:timers/promises";

import { DEFAULT_PROJECT, KEY_HASH_BYTES, recordPath } from "@tacenda/protocol";
import { Tacenda, type Store, type TacendaOptions } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";

import { spawnServer, type ServerProcess } from "../server-process.ts";
import { freshPlace, sharedCluster, type DatabaseName, type Place } from "./databases.ts";
import { DatabaseLink } from "./database-link.ts";
import type { Cluster } from "../postgres.ts";

export const ROOT_TOKEN = "root-token-of-the-histories-0123456789abcdef";
export const STORE = "kept";
/** More than anything here writes of one record, so that each version can be looked at in the end. */
const MAX_VERSIONS = 1_000;
/** Milliseconds in which a server must be of use again after anything. */
const PATIENCE = 60_000;

/** Nobody listens there, and it is none of the ports that `fetch` refuses by itself. */
const NOWHERE = "http://127.0.0.1:2";

/** One server, whose URL is another one after each start. */
export class SupervisedServer {
  readonly link: DatabaseLink | null;
  readonly #start: () => Promise<ServerProcess>;
  readonly #faults: string[];
  #process: ServerProcess | null = null;
  url = NOWHERE;

  constructor(start: () => Promise<ServerProcess>, link: DatabaseLink | null, faults: string[]) {
    this.#start = start;
    this.link = link;
    this.#faults = faults;
  }

  async start(): Promise<void> {
    const deadline = performance.now() + PATIENCE;
    for (;;) {
      try {
        const started = await this.#start();
        this.#process = started;
        this.url = started.url;
        void started.ended.then(() => {
          if (this.#process === started) this.#faults.push(`a server ended by itself: ${started.output().slice(-500)}`);
        });
        return;
      } catch (error) {
        // It may be without its database for a while, and a supervisor tries again.
        if (performance.now() > deadline) throw error;
        await sleep(200);
      }
    }
  }

  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const ending = this.#process;
    this.#process = null;
    await ending?.end(signal);
    // Its port may be somebody else's by now.
    this.url = NOWHERE;
  }
}

export interface Deployment {
  servers: readonly SupervisedServer[];
  /** Null on SQLite. */
  database: { cluster: Cluster; url: string } | null;
  /** What went wrong with the servers themselves. */
  faults: string[];
}

/** Starts `count` servers with the store `STORE`, on PostgreSQL each with a link of its own to the database. */
export async function deploy(bin: string, database: DatabaseName, count: number): Promise<Deployment> {
  const place = await freshPlace(database);
  const faults: string[] = [];
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const link = place.databaseUrl === null ? null : await DatabaseLink.open(place.databaseUrl);
      return new SupervisedServer(
        () => spawnServer({ bin, ...placeBy(place, link), rootToken: ROOT_TOKEN }),
        link,
        faults,
      );
    }),
  );
  // One after the other: the first makes the tables and the keyring.
  for (const server of servers) await server.start();
  const admin = new TacendaAdmin({ url: servers[0]?.url ?? "", token: ROOT_TOKEN });
  await admin.stores.create(STORE, { maxVersions: MAX_VERSIONS });
  const { databaseUrl } = place;
  return {
    servers,
    faults,
    database: databaseUrl === null ? null : { cluster: await sharedCluster(), url: databaseUrl },
  };
}

function placeBy(place: Place, link: DatabaseLink | null): Pick<Place, "dataDir" | "env"> {
  return link === null ? place : { ...place, env: { TACENDA_DATABASE_URL: link.url } };
}

/** Waits until each server reads from its database. @throws {Error} when one cannot in time: it has not recovered by itself. */
export async function untilReady({ servers }: Deployment): Promise<void> {
  const deadline = performance.now() + PATIENCE;
  const authorization = `Bearer ${ROOT_TOKEN}`;
  for (const server of servers) {
    for (;;) {
      const path = recordPath(DEFAULT_PROJECT, STORE, crypto.getRandomValues(new Uint8Array(KEY_HASH_BYTES)));
      const answer = await fetch(`${server.url}/${path}`, {
        headers: { authorization },
        signal: AbortSignal.timeout(5_000),
      }).catch(() => null);
      await answer?.arrayBuffer();
      if (answer?.status === 404) break;
      if (performance.now() > deadline)
        throw new Error(`A server has not recovered: ${answer?.status ?? "no answer"}.`);
      await sleep(20);
    }
  }
}

/** A `fetch` to a server whose URL may change: the origin in requests is replaced by that of today. */
export function fetchBy(server: () => SupervisedServer, fetch = globalThis.fetch): typeof globalThis.fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    const { pathname, search } = new URL(request.url);
    return await fetch(new Request(server().url + pathname + search, request));
  };
}

/** The store `STORE` of a fresh client that goes by `fetch`. */
export function storeBy(
  fetch: typeof globalThis.fetch,
  secret: string,
  options: Omit<TacendaOptions, "secret"> = {},
): Store {
  return new Tacenda({ url: NOWHERE, token: ROOT_TOKEN, fetch, ...options }).getStore(STORE, {
    secret,
    stretch: "store",
  });
}

export function anyOf<Item>(items: readonly Item[]): Item {
  const item = items[Math.floor(Math.random() * items.length)];
  if (item === undefined) throw new Error("There is none.");
  return item;
}
