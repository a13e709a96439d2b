/** A real server whose clock, like its clients', is set by the test; it can be started anew, and its store be made anew. */

import { dirname, join } from "node:path";

import { Tacenda, generateSecret, type Store } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import type { RunningServer, ServerOptions } from "@tacenda/server";
import { onTestFinished, vi } from "vitest";

import { freshPlace, type DatabaseName, type Place } from "../databases.ts";
import { MAX_VERSIONS } from "./model.ts";

const ROOT_TOKEN = "root-token-of-the-model-tests-0123456789abcdef";
const START = Date.UTC(2030, 0, 1);
/** How often the server looks for what has expired, in milliseconds of real time: so that it comes in between. */
const EXPIRY_INTERVAL = 40;

interface ServerPackage {
  startServer: (options: ServerOptions) => Promise<RunningServer>;
}

export class ModelWorld {
  readonly #package: ServerPackage;
  readonly #place: Place;
  readonly #secret = generateSecret();
  #server: RunningServer;
  #stores: Store[] = [];
  #storeNumber = 0;

  private constructor(loaded: ServerPackage, place: Place, server: RunningServer) {
    this.#package = loaded;
    this.#place = place;
    this.#server = server;
  }

  /** @param bin The command of the build to start, in this very process. */
  static async open(bin: string, database: DatabaseName): Promise<ModelWorld> {
    // Timers go on as ever; only what time it is is ours to say.
    vi.useFakeTimers({ toFake: ["Date"], now: START });
    onTestFinished(() => void vi.useRealTimers());
    const loaded = (await import(join(dirname(bin), "../dist/index.js"))) as ServerPackage;
    const place = await freshPlace(database);
    const world = new ModelWorld(loaded, place, await start(loaded, place, 0));
    onTestFinished(() => world.#server.close());
    await world.#createStore();
    return world;
  }

  /** The store as one of two clients sees it, each with marks of its own. */
  store(client: number): Store {
    const store = this.#stores[client];
    if (store === undefined) throw new Error("There is no such client.");
    return store;
  }

  get admin(): TacendaAdmin {
    return new TacendaAdmin({ url: this.#server.url, token: ROOT_TOKEN });
  }

  get storeId(): string {
    return `store-${this.#storeNumber}`;
  }

  passTime(milliseconds: number): void {
    vi.setSystemTime(Date.now() + milliseconds);
  }

  /** Clients go on as they are: they find the server where it was. */
  async restart(): Promise<void> {
    const { port } = this.#server;
    await this.#server.close();
    this.#server = await start(this.#package, this.#place, port);
  }

  /** Destroys the store and makes one of another id. Gives the old one, as a client still has it. */
  async remakeStore(): Promise<Store> {
    const old = this.store(0);
    await this.admin.stores.delete(this.storeId);
    await this.#createStore();
    return old;
  }

  async #createStore(): Promise<void> {
    this.#storeNumber++;
    await this.admin.stores.create(this.storeId, { maxVersions: MAX_VERSIONS });
    const options = { secret: this.#secret, stretch: "store" } as const;
    const open = () =>
      new Tacenda({ url: this.#server.url, token: ROOT_TOKEN, timeout: 60_000 }).getStore(this.storeId, options);
    this.#stores = [open(), open()];
  }
}

async function start({ startServer }: ServerPackage, place: Place, port: number): Promise<RunningServer> {
  const { dataDir, databaseUrl } = place;
  const database = databaseUrl === null ? {} : { databaseUrl };
  const background = { expiryInterval: EXPIRY_INTERVAL, masterKeyRotation: null };
  return await startServer({ dataDir, port, rootToken: ROOT_TOKEN, ...database, ...background });
}
