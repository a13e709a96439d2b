/**
 * Brings the bodies of a store under its newest data key, a few at a time, and gives up the data keys that nothing is under
 * any more; spec/envelope.md § Rotating data keys. How far it has come stands in the database.
 */

import { setTimeout as sleep } from "node:timers/promises";

import { dataKeyVersion, type OpenStore } from "../envelope/open-store.js";
import type { StoreKeys } from "../envelope/store-keys.js";
import type { KeyDirectory, Reencryption, StoreRef } from "../storage/key-directory.js";
import type { BodyChange, MaintenanceStore, OutdatedBody } from "../storage/maintenance.js";

/**
 * Per step: other requests come in between the steps, and wait for one. Opening, sealing and writing a body takes long, however small
 * it is; a row that needs nothing takes little, but is looked at in vain where 128 before it need something.
 */
const STEP = { maxRows: 256, maxBodies: 128, maxBytes: 1_048_576 };

export interface ReencryptServices {
  keys: KeyDirectory;
  storeKeys: StoreKeys;
  maintenance: MaintenanceStore;
}

/**
 * Goes on with a re-encryption until its end: passes over the store until one finds nothing to replace, then deletes the
 * retired data keys below its target, if no damaged body still needs one. `proceed` is asked before each step; when it says
 * false the rest is left for later. Between steps it rests as long as the step took, so that traffic has its half.
 *
 * @throws {KeyProviderError} when the store's keys cannot be had.
 */
export async function reencrypt(
  services: ReencryptServices,
  begun: Reencryption,
  proceed: () => Promise<boolean>,
): Promise<void> {
  let progress = begun;
  for (;;) {
    if (!(await proceed())) return;
    const started = performance.now();
    const next = await step(services, progress);
    if (next === null) return;
    progress = next;
    await sleep(performance.now() - started);
  }
}

/** One step. Null at the end. */
async function step(services: ReencryptServices, progress: Reencryption): Promise<Reencryption | null> {
  const { keys, storeKeys, maintenance } = services;
  const { project, store: name, target } = progress;
  let store = await storeKeys.open(project, name);
  // Destroyed, and its re-encryption with it.
  if (store === null) return null;
  if (store.current.version < target) store = await storeKeys.reload(project, name, store);
  if (store === null) return null;

  const { rows, next } = await maintenance.findOutdatedBodies(progress, store.bodyStarts(target), progress, STEP);
  if (namesUnknownKey(store, rows)) {
    const reloaded = await storeKeys.reload(project, name, store);
    if (reloaded === null) return null;
    // Another server has rotated the data key: the same step again. If none has, such a body is damaged.
    if (reloaded.current.version !== store.current.version) return progress;
    store = reloaded;
  }
  const changes = rows.map((row) => sealAnew(store, row)).filter((change) => change !== null);
  const replaced = changes.length === 0 ? 0 : await maintenance.replaceBodies(progress, store.current.version, changes);
  if (replaced === null) {
    // The data key was rotated meanwhile: the same step again, under the newer one.
    await storeKeys.reload(project, name, store);
    return progress;
  }
  const done = {
    ...progress,
    replaced: progress.replaced + replaced,
    damaged: progress.damaged + rows.length - changes.length,
  };
  if (next !== null) return await save(keys, { ...done, ...next });
  if (done.replaced > 0) {
    // Only a pass that has found nothing shows that nothing is left.
    return await save(keys, { ...done, id: new Uint8Array(0), version: 0, replaced: 0, damaged: 0 });
  }
  if (done.damaged === 0) await deleteUnused(services, done, target);
  await keys.endReencryption(done);
  return null;
}

function namesUnknownKey(store: OpenStore, rows: readonly OutdatedBody[]): boolean {
  const named = rows.map(({ body }) => dataKeyVersion(body));
  return named.some((version) => version !== null && store.dataKey(version) === undefined);
}

/** Null when the body does not verify. It stays as it is, and so does its data key, for a backup may yet mend it. */
function sealAnew(store: OpenStore, { id, version, body }: OutdatedBody): BodyChange | null {
  const record = store.open(id, version, body);
  return record && { id, version, before: body, body: store.seal(id, version, record) };
}

async function save(keys: KeyDirectory, progress: Reencryption): Promise<Reencryption> {
  await keys.saveReencryption(progress);
  return progress;
}

/**
 * A data key is retired in a commit, after which no write under it can be committed; and a whole pass that began later has
 * found nothing under it. So nothing is, and nothing will be.
 */
async function deleteUnused(
  { keys, storeKeys, maintenance }: ReencryptServices,
  ref: StoreRef,
  target: number,
): Promise<void> {
  const { project, store } = ref;
  for (const { purpose, version, state } of await keys.wrappedKeys(project, store)) {
    if (purpose === "data" && state === "retired" && version < target) await keys.deleteDataKey(ref, version);
  }
  await maintenance.scrub();
  const opened = await storeKeys.open(project, store, "read");
  if (opened !== null) await storeKeys.reload(project, store, opened);
}
