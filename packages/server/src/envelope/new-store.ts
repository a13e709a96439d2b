/** Makes a store together with its first keys; spec/envelope.md § Store keys. */

import type { Store } from "@tacenda/protocol";

import type { CreateResult, Directory } from "../storage/directory.js";
import type { WrappedKey } from "../storage/store-key.js";

/** How often to wrap again when the master key was retired between wrapping and writing. */
const MAX_ATTEMPTS = 3;

/** What makes and wraps the first keys of a store. */
export interface NewKeys {
  createKeys(project: string, store: string, now: number): Promise<readonly WrappedKey[]>;
}

/**
 * Makes `store` in `project`; its keys are made with it, in one commit. `stale_key` only when master keys are retired again
 * and again meanwhile.
 *
 * @throws {KeyProviderError} when the keys cannot be wrapped.
 */
export async function createStoreWithKeys(
  directory: Pick<Directory, "createStore">,
  keys: NewKeys,
  project: string,
  store: Store,
): Promise<CreateResult | "no_project" | "stale_key" | "over_quota"> {
  for (let attempt = 1; ; attempt++) {
    const made = await keys.createKeys(project, store.id, store.createdAt);
    const result = await directory.createStore(project, store, made);
    if (result !== "stale_key" || attempt === MAX_ATTEMPTS) return result;
  }
}
