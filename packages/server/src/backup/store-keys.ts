/** Tries every wrapped key of a backup or a database; spec/envelope.md § Restoring, § Verifying. */

import { KeyProviderError, type KeyProvider } from "../envelope/key-provider.js";
import { StoreKeys } from "../envelope/store-keys.js";
import type { WrappedKey } from "../storage/directory.js";
import type { KeyRow } from "../storage/portable.js";
import { BackupError } from "./errors.js";
import { placeOf } from "./source.js";

/** Bytes of a store key. */
const KEY_BYTES = 32;
/** Stores whose keys are unwrapped at once: records come store by store. */
const OPEN_STORES = 16;

/** A wrapped key that does not open, and why. */
export interface KeyFault {
  key: KeyRow;
  reason: string;
}

/**
 * Unwraps every key and gives those that do not open.
 * @throws {BackupError} when keys were wrapped by another provider: nothing can be said of those.
 * @throws {KeyProviderError} when the provider cannot be reached.
 */
export async function tryKeys(keys: readonly KeyRow[], provider: KeyProvider): Promise<KeyFault[]> {
  const others = new Set(keys.map((key) => key.provider).filter((id) => id !== provider.id));
  if (others.size > 0) {
    throw new BackupError(
      `This is another keyring: it is ${provider.id}, and the store keys need ${[...others].sort().join(", ")}. ` +
        "Name the right one with --keyring.",
    );
  }
  const faults: KeyFault[] = [];
  for (const key of keys) {
    const reason = await tryKey(key, provider);
    if (reason !== null) faults.push({ key, reason });
  }
  return faults;
}

/** What the key is called in messages. */
export function describeKey({ project, store, purpose, version }: KeyRow): string {
  return `${purpose} key ${version} of store ${store} in project ${project}`;
}

/** Opens stores by these keys. What it throws is what StoreKeys.open does. */
export function storeKeysOf(keys: readonly KeyRow[], provider: KeyProvider): StoreKeys {
  const byStore = new Map<string, WrappedKey[]>();
  for (const { project, store, master_version: masterVersion, ...key } of keys) {
    const place = placeOf({ project, store });
    byStore.set(place, [...(byStore.get(place) ?? []), { ...key, masterVersion }]);
  }
  const directory = {
    wrappedKeys: (project: string, store: string) => Promise.resolve(byStore.get(placeOf({ project, store })) ?? []),
  };
  return new StoreKeys({ directory, provider, maxStores: OPEN_STORES });
}

async function tryKey(key: KeyRow, provider: KeyProvider): Promise<string | null> {
  const { project, store, purpose, version, master_version: masterVersion, wrapped } = key;
  try {
    const opened = await provider.unwrap({ masterVersion, wrapped }, { project, store, purpose, version });
    const { length } = opened;
    opened.fill(0);
    return length === KEY_BYTES ? null : `The key provider gave back a key of ${length} bytes.`;
  } catch (error) {
    if (error instanceof KeyProviderError && error.fault === "refused") return error.message;
    throw error;
  }
}
