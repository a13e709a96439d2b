/** Tries every wrapped key of a backup or a database; spec/envelope.md § Restoring, § Verifying. */

import { KeyProviderError } from "../envelope/key-provider.js";
import type { KeyProviders } from "../envelope/key-providers.js";
import { StoreKeys } from "../envelope/store-keys.js";
import type { KeyRow } from "../storage/portable.js";
import type { WrappedKey } from "../storage/store-key.js";
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
 * Unwraps every key and gives those that do not open. One that names a provider which was not given is among them.
 * @throws {BackupError} when no key names a provider that was given: those are of another database, and nothing can be said.
 * @throws {KeyProviderError} when the provider cannot be reached.
 */
export async function tryKeys(keys: readonly KeyRow[], providers: KeyProviders): Promise<KeyFault[]> {
  const others = new Set(keys.map((key) => key.provider).filter((id) => providers.get(id) === undefined));
  if (others.size > 0 && keys.every(({ provider }) => others.has(provider))) {
    const ids = providers.all().map(({ id }) => id);
    const isKeyring = [...ids, ...others].every((id) => id.startsWith("local:")) && ids.length === 1;
    throw new BackupError(
      (isKeyring ? `This is another keyring: it is ${ids.join()}` : `The key providers named are ${ids.join(", ")}`) +
        `, and the store keys need ${[...others].sort().join(", ")}. Name the right one with ` +
        (isKeyring ? "--keyring." : "--key-provider or --keyring."),
    );
  }
  const faults: KeyFault[] = [];
  for (const key of keys) {
    const reason = await tryKey(key, providers);
    if (reason !== null) faults.push({ key, reason });
  }
  return faults;
}

/**
 * Unwraps every key before anything is written. `what`: what was not done, for the message.
 * @throws {BackupError} naming the first key that does not open, and as tryKeys does.
 * @throws {KeyProviderError} when the provider cannot be reached.
 */
export async function requireWholeKeys(
  keys: readonly KeyRow[],
  providers: KeyProviders,
  what: "restored" | "copied",
): Promise<void> {
  const [fault] = await tryKeys(keys, providers);
  if (fault === undefined) return;
  throw new BackupError(
    `Nothing was ${what}, for the ${describeKey(fault.key)} (wrapped under master-key version ` +
      `${fault.key.master_version}) does not open: ${fault.reason}`,
  );
}

/** What the key is called in messages. */
export function describeKey({ project, store, purpose, version }: KeyRow): string {
  return `${purpose} key ${version} of store ${store} in project ${project}`;
}

/** Opens stores by these keys. What it throws is what StoreKeys.open does. */
export function storeKeysOf(keys: readonly KeyRow[], providers: KeyProviders): StoreKeys {
  const byStore = new Map<string, WrappedKey[]>();
  for (const { project, store, master_version: masterVersion, created_at: createdAt, ...key } of keys) {
    const place = placeOf({ project, store });
    byStore.set(place, [...(byStore.get(place) ?? []), { ...key, masterVersion, createdAt }]);
  }
  const directory = {
    wrappedKeys: (project: string, store: string) => Promise.resolve(byStore.get(placeOf({ project, store })) ?? []),
  };
  return new StoreKeys({ directory, providers, maxStores: OPEN_STORES });
}

async function tryKey(key: KeyRow, providers: KeyProviders): Promise<string | null> {
  const { project, store, purpose, version, master_version: masterVersion, wrapped } = key;
  const provider = providers.get(key.provider);
  if (provider === undefined) {
    return (
      `it names the key provider ${key.provider}, which was not given. Name it as well, with --key-provider or --keyring; ` +
      "if there is none, the key was damaged or edited in the database."
    );
  }
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
