/** Holders of one secret, each with marks of their own, before one malicious server. */

import type { Store } from "@tacenda/sdk";
import { onTestFinished, vi } from "vitest";

import { type World, openWorld } from "../world.js";
import { Adversary } from "./adversary.js";
import { type Sdk, loadSdk } from "./sdk.js";

/** Milliseconds for a call: not so few that an honest answer comes too late on a busy machine. */
export const TIMEOUT = 5_000;

interface Client {
  /** The store "user-tokens", then the store "other". */
  stores: readonly [Store, Store];
}

export interface Arena {
  sdk: Sdk;
  world: World;
  adversary: Adversary;
  /** The last one keeps values in memory for an instant, so that it asks conditionally. */
  clients: readonly [Client, Client, Client];
  /** Texts that no error may hold. */
  secrets: readonly string[];
  /** A key that nobody has used. */
  freshKey(): string;
}

/** Something a malicious server does. `run` throws when it succeeds. */
export interface Attack {
  name: string;
  readonly run: (arena: Arena) => Promise<void> | void;
}

/** A server for the tests of a file, and arenas on it. */
export async function openArenas(): Promise<{ world: World; arena(sdk?: Sdk): Promise<Arena> } & AsyncDisposable> {
  const world = await openWorld();
  return {
    world,
    arena: async (sdk) => await openArena(world, sdk ?? (await loadSdk())),
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  };
}

/** Keys cost microseconds with stretch "store", and each client has used both its stores, so all that is left is derived. */
async function openArena(world: World, sdk: Sdk): Promise<Arena> {
  const adversary = new Adversary();
  const { url, token, secret } = world;
  const client = async (cached: boolean): Promise<Client> => {
    const tacenda = new sdk.Tacenda({ url, token, fetch: adversary.fetch, timeout: TIMEOUT, maxAttempts: 2 });
    const open = (id: string) =>
      tacenda.getStore(id, { secret, stretch: "store", ...(cached && { cache: { ttl: 1 } }) });
    const stores = [open("user-tokens"), open("other")] as const;
    await Promise.all(stores.map((store) => store.setValue(crypto.randomUUID(), "warm")));
    return { stores };
  };
  const clients = await Promise.all([client(false), client(false), client(true)]);
  return {
    sdk,
    world,
    adversary,
    clients,
    secrets: [token, secret],
    freshKey: () => `key-${crypto.randomUUID()}`,
  };
}

/** For the rest of a test, pauses before repetitions have no length: a sequence is the same each time it is run. */
export function withoutJitter(): void {
  const random = vi.spyOn(Math, "random").mockReturnValue(0);
  onTestFinished(() => random.mockRestore());
}
