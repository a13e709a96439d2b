/** A new data key for a store; spec/envelope.md § Rotating data keys. */

import type { StoreKeys } from "../envelope/store-keys.js";
import type { KeyDirectory, StoreRef } from "../storage/key-directory.js";
import { StaleKeyError } from "../storage/record-store.js";
import type { WrappedKey } from "../storage/store-key.js";

export interface DataKeyServices {
  keys: KeyDirectory;
  storeKeys: StoreKeys;
}

/** How often to try again when others rotate the same keys at the same moment. */
const MAX_ATTEMPTS = 5;

/**
 * Makes a data key that all new writes of the store use from now on; earlier ones open what exists. Gives its version, or
 * null when there is no such store, or its newest data key was made at `unlessSince` or later. Times in milliseconds since the
 * epoch.
 *
 * @throws {KeyProviderError} when the key cannot be wrapped.
 * @throws {StaleKeyError} when others got in the way again and again.
 */
export async function addDataKey(
  { keys, storeKeys }: DataKeyServices,
  ref: StoreRef,
  now: number,
  unlessSince = Infinity,
): Promise<number | null> {
  const { project, store } = ref;
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    const dataKeys = (await keys.wrappedKeys(project, store)).filter(({ purpose }) => purpose === "data");
    const newest = dataKeys.reduce<WrappedKey | null>((a, b) => (a !== null && a.version > b.version ? a : b), null);
    if (newest === null || newest.createdAt >= unlessSince) return null;
    const key = await storeKeys.createDataKey(project, store, newest.version + 1, now);
    // Whoever writes with the earlier key is refused, and then loads this one.
    if ((await keys.addDataKey(ref, key)) === "added") return key.version;
  }
  throw new StaleKeyError("The store's data keys are being rotated by others. Try again.");
}
