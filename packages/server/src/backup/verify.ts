/** Opens everything that a database or a backup holds, and names what does not open; spec/envelope.md § Verifying. */

import { setImmediate } from "node:timers/promises";

import { counted } from "../counted.js";
import { KeyProviderError } from "../envelope/key-provider.js";
import type { KeyProviders } from "../envelope/key-providers.js";
import type { OpenStore } from "../envelope/open-store.js";
import type { StoreKeys } from "../envelope/store-keys.js";
import { StorageError } from "../storage/record-store.js";
import { Progress, nameOf, placeOf, type RecordSource, type SourceRecord, type StoreRef } from "./source.js";
import { describeKey, storeKeysOf, tryKeys } from "./store-keys.js";

/** Records between two turns of the event loop. */
const STEP_RECORDS = 50;

export interface VerifyOptions {
  source: RecordSource;
  providers: KeyProviders;
  /** Gets a sentence for each thing that does not open. It names stores and blinded ids, and holds no key and no value. */
  onDamage: (what: string) => void;
  onProgress?: ((done: number, total: number) => void) | undefined;
}

export interface VerifySummary {
  stores: number;
  keys: number;
  records: number;
  versions: number;
  /** Sentences that onDamage got. */
  damaged: number;
}

/**
 * Unwraps every store key, checks every record's tag and opens every kept version.
 * @throws {BackupError} when the keys need another provider.
 * @throws {KeyProviderError | StorageError} when the provider or the database cannot be reached.
 */
export async function verify({ source, providers, onDamage, onProgress }: VerifyOptions): Promise<VerifySummary> {
  const summary = { stores: source.stores.length, keys: source.keys.length, records: 0, versions: 0, damaged: 0 };
  const report = (what: string) => {
    summary.damaged++;
    onDamage(what);
  };
  for (const { key, reason } of await tryKeys(source.keys, providers)) {
    report(`The ${describeKey(key)} does not open: ${reason}`);
  }
  const stores = storeKeysOf(source.keys, providers);
  /** Records of stores without usable keys. */
  const closed = new Map<string, number>();
  for (const store of source.stores) if ((await openStore(stores, store)) === null) closed.set(placeOf(store), 0);

  const progress = new Progress(source.stores);
  for await (const found of source.records()) {
    const { record } = found;
    const place = placeOf(record);
    summary.records++;
    const store = closed.has(place) ? null : await openStore(stores, record);
    if (store === null) closed.set(place, (closed.get(place) ?? 0) + 1);
    else for (const fault of await faultsOf(found, store)) report(`${nameOf(record)}${fault}.`);
    if (store !== null) summary.versions += record.versions.length;
    if (summary.records % STEP_RECORDS === 0) {
      onProgress?.(progress.at(record), progress.total);
      await setImmediate();
    }
  }
  for (const [place, records] of closed) {
    report(`Store ${place} has no usable keys: its ${counted(records, "record")} cannot be opened.`);
  }
  return summary;
}

/** Null when its keys are missing or some do not open, as the server would have it. */
async function openStore(stores: StoreKeys, { project, store }: StoreRef): Promise<OpenStore | null> {
  try {
    return await stores.open(project, store);
  } catch (error) {
    if (error instanceof StorageError || (error instanceof KeyProviderError && error.fault === "refused")) return null;
    throw error;
  }
}

async function faultsOf({ record, bodies }: SourceRecord, store: OpenStore): Promise<string[]> {
  const { record_id: id, version: current, protected: isProtected, active, tag, versions } = record;
  const state = { version: current, protected: isProtected !== 0, active: active !== 0, ...(tag && { tag }) };
  const faults: string[] = [];
  if (!store.verifyTag(id, state)) faults.push(": its state does not verify");
  if (versions.at(-1)?.version !== current) faults.push(`, version ${current}: it is missing`);
  let index = 0;
  for await (const body of bodies()) {
    const { version = 0 } = versions[index++] ?? {};
    if (store.open(id, version, body) === null) faults.push(`, version ${version}: it does not open`);
  }
  return faults;
}
