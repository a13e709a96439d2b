/** What attacks have in common: a key with a value, and how its server answers. */

import type { Mutator, Sent, Snapshot } from "../adversary.js";
import type { Arena } from "../arena.js";

/** Every request of a call is answered so. */
export function always(arena: Arena, mutator: Mutator): void {
  arena.adversary.begin(() => mutator);
}

export function honest(arena: Arena): void {
  arena.adversary.begin(undefined);
}

/** A key with a value, its first client, who has written it, and a second one, who has not seen it. */
export async function scene(arena: Arena) {
  honest(arena);
  const [{ stores }, second] = arena.clients;
  const [store, other] = stores;
  const key = arena.freshKey();
  await store.setValue(key, "1");
  const [written] = arena.adversary.exchanges;
  if (written === undefined) throw new Error("The write was not seen.");
  return { key, store, other, fresh: second.stores[0], written };
}

/** What the real server answers to a read, caught by the adversary. */
export async function caught(arena: Arena, sent: Sent): Promise<Snapshot> {
  const headers = new Headers({ authorization: sent.headers.get("authorization") ?? "" });
  return await arena.adversary.pass({ method: "GET", url: sent.url, headers, body: new Uint8Array(0) });
}

export const refused = (code: string) => ({ code });
export const requests = (arena: Arena, method: string) =>
  arena.adversary.exchanges.filter((exchange) => exchange.method === method).length;
