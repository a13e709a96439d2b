/** What a case is given: the plan, and clients and stores made from it. */

import { type Store, type StoreOptions, Tacenda, type TacendaOptions } from "@tacenda/sdk";

import type { Plan } from "./plan.ts";
import { openStoreOf, storeOf } from "./stores.ts";

export interface Context {
  plan: Plan;
  /** A fresh client: its marks and derived keys are its own. */
  client: (options?: TacendaOptions) => Tacenda;
  /** The runtime's own store, of a fresh client. */
  store: (options?: StoreOptions & TacendaOptions) => Store;
  /** A store that takes any secret, iterations and stretch. */
  openStore: (options: StoreOptions) => Store;
}

/** One thing that must hold in every runtime; it throws where it does not. */
export interface Case {
  name: string;
  run: (context: Context) => Promise<void>;
}

export function createContext(plan: Plan): Context {
  const { url, token, secret, runtime } = plan;
  const client = (options: TacendaOptions = {}) => new Tacenda({ url, token, ...options });
  return {
    plan,
    client,
    store: (options = {}) => client(options).getStore(storeOf(runtime), { secret, cache: options.cache }),
    openStore: (options) => client().getStore(openStoreOf(runtime), { secret, ...options }),
  };
}
