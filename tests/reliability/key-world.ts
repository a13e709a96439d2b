/** A server with many stores and one full of records, whose keys are then rotated, moved and killed in the middle of it. */

import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, type Store, type TacendaOptions } from "@tacenda/sdk";
import { TacendaAdmin, type KeyStatus, type MasterKeyRef } from "@tacenda/sdk/admin";

export const ROOT_TOKEN = "root-token-of-the-key-tests-0123456789abcdef";
/** The store whose records are re-encrypted. */
export const STORE = "kept";

/** Milliseconds for work in the background: a lease that a killed server has left may hold it up for 15 s. */
const PATIENCE = 60_000;
const POLL = 25;

export interface Contents {
  /** Stores besides, each with one value, so that rewrapping takes more than one step. */
  stores: number;
  /** Records of the store that is re-encrypted, their versions, and the bytes of each. */
  records: number;
  versions: number;
  bytes: number;
}

export function adminOf(url: string, options: Pick<TacendaOptions, "maxAttempts" | "fetch" | "timeout"> = {}) {
  return new TacendaAdmin({ url, token: ROOT_TOKEN, ...options });
}

export function storeOf(url: string, secret: string, id = STORE, options: Omit<TacendaOptions, "secret"> = {}): Store {
  return new Tacenda({ url, token: ROOT_TOKEN, ...options }).getStore(id, { secret, stretch: "store" });
}

/** A store's name, a key in it, and the value that is there. */
export type Row = readonly [store: string, key: string, value: string];

/** Makes the stores and writes what they hold. Gives what must be read from now on. */
export async function fill(
  url: string,
  secret: string,
  contents: Contents,
  fetch: typeof globalThis.fetch = globalThis.fetch,
): Promise<Row[]> {
  const { stores, records, versions, bytes } = contents;
  const admin = adminOf(url);
  await admin.stores.create(STORE);
  const beside = Array.from({ length: stores }, (_, index) => `beside-${index}`);
  await Promise.all(beside.map((id) => admin.stores.create(id)));
  const rows: Row[] = beside.map((id) => [id, "only", `the value of ${id}`]);
  await Promise.all(rows.map(([id, key, value]) => storeOf(url, secret, id, { fetch }).setValue(key, value)));
  const kept = storeOf(url, secret, STORE, { fetch });
  for (let version = 1; version <= versions; version++) {
    const written = Array.from({ length: records }, (_, index): readonly [string, string] => [
      `record-${index}`,
      `${index} in version ${version}:`.padEnd(bytes, "="),
    ]);
    await Promise.all(written.map(([key, value]) => kept.setValue(key, value)));
    if (version === versions) rows.push(...written.map(([key, value]): Row => [STORE, key, value]));
  }
  return rows;
}

/** What does not read as it was written, by a client that has seen nothing before. */
export async function misread(url: string, secret: string, rows: readonly Row[]): Promise<string[]> {
  const faults: string[] = [];
  const stores = Map.groupBy(rows, ([id]) => id);
  await Promise.all(
    [...stores].map(async ([id, own]) => {
      const store = storeOf(url, secret, id);
      for (let start = 0; start < own.length; start += 100) {
        const part = own.slice(start, start + 100);
        try {
          const found = await store.getValues(part.map(([, key]) => key));
          for (const [, key, value] of part)
            if (found.get(key) !== value) faults.push(`${key} of ${id} reads otherwise`);
        } catch (error) {
          faults.push(`reading ${id}: ${String(error)}`);
        }
      }
    }),
  );
  return faults;
}

/** Waits until no key is to be wrapped anew and nothing to be re-encrypted. @throws {Error} when that does not come. */
export async function settled(admin: TacendaAdmin, patience = PATIENCE): Promise<KeyStatus> {
  const started = performance.now();
  for (;;) {
    const status = await admin.keys.status();
    const { outdatedWraps, reencryptions, failure } = status;
    if (outdatedWraps + reencryptions.length === 0) return status;
    if (performance.now() - started > patience) {
      const left = `${outdatedWraps} wraps and ${JSON.stringify(reencryptions)}`;
      throw new Error(`The work on keys does not come to its end: ${left} are left. ${failure ?? ""}`);
    }
    await sleep(POLL);
  }
}

/** Master keys that anything is wrapped under. */
export function mastersInUse({ providers }: KeyStatus): MasterKeyRef[] {
  return providers.flatMap(({ id, versions }) =>
    versions.flatMap(({ version, wraps }) => (wraps > 0 ? [{ provider: id, masterVersion: version }] : [])),
  );
}
