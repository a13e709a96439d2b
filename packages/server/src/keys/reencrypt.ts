/**
 * Brings the bodies of a store under its newest data key, a few at a time, and gives up the data keys that nothing is under
 * any more; spec/envelope.md § Rotating data keys. How far it has come stands in the database.
 */

import { setImmediate } from "node:timers/promises";

import { dataKeyVersion, type OpenStore } from "../envelope/open-store.js";
import type { StoreKeys } from "../envelope/store-keys.js";
import { restAfter } from "../pace.js";
import type { KeyDirectory, Reencryption } from "../storage/key-directory.js";
import type { BodyChange, MaintenanceStore, OutdatedBody, VersionPlace } from "../storage/maintenance.js";

/**
 * Per step: other requests come in between the steps, and wait for one. Opening, sealing and writing a body takes long, however small
 * it is; a row that needs nothing takes little, but is looked at in vain where 128 before it need something.
 */
const STEP = { maxRows: 256, maxBodies: 128, maxBytes: 1_048_576 };

const BEGIN: VersionPlace = { id: new Uint8Array(0), version: 0 };

export interface ReencryptServices {
  keys: KeyDirectory;
  storeKeys: StoreKeys;
  maintenance: MaintenanceStore;
  /** Milliseconds since the epoch. */
  now: () => number;
}

/** `stopped`: `proceed` said so; `kept`: damaged bodies keep their data keys. */
export type ReencryptOutcome = "done" | "kept" | "gone" | "stopped";

/**
 * Goes on with a re-encryption until its end. `proceed` is asked before each step; when it says false the rest is left for
 * later. Between steps it rests as long as the step took, so that traffic has its half.
 *
 * @throws {KeyProviderError} when the store's keys cannot be had.
 */
export async function reencrypt(
  services: ReencryptServices,
  begun: Reencryption,
  proceed: () => Promise<boolean>,
): Promise<ReencryptOutcome> {
  const { keys } = services;
  let progress = begun;
  for (;;) {
    if (!(await proceed())) return "stopped";
    const started = performance.now();
    const stepped = await step(services, progress);
    if (stepped === "gone") return "gone";
    const { next, ...done } = stepped;
    if (next !== null) {
      progress = { ...progress, ...done, ...next };
      await keys.saveReencryption(progress);
      await restAfter(started);
      continue;
    }
    const ending = await end(services, { ...progress, ...done }, proceed);
    if (ending !== "again") return ending;
    progress = { ...progress, ...BEGIN, damaged: 0 };
    await keys.saveReencryption(progress);
  }
}

/** One step: where the next one begins, null at the end, and the damaged bodies of the pass. */
async function step(
  { storeKeys, maintenance }: ReencryptServices,
  progress: Reencryption,
): Promise<"gone" | { next: VersionPlace | null; damaged: number }> {
  const { project, store: name, target, damaged } = progress;
  let store = await storeKeys.open(project, name);
  if (store !== null && store.current.version < target) store = await storeKeys.reload(project, name, store);
  // Destroyed, and its re-encryption with it.
  if (store === null) return "gone";
  const opened = store;

  const { rows, next } = await maintenance.findOutdatedBodies(progress, opened.bodyStarts(target), progress, STEP);
  // Another server may have rotated the data key: the same step again. If none has, such a body is damaged.
  if (namesUnknownKey(opened, rows) && (await storeKeys.reload(project, name, opened)) !== opened) {
    return { next: progress, damaged };
  }
  const changes = rows.map((row) => sealAnew(opened, row)).filter((change) => change !== null);
  if (changes.length > 0) {
    const replaced = await maintenance.replaceBodies(progress, opened.current.version, changes);
    if (replaced === null) {
      // The data key was rotated meanwhile: the same step again, under the newer one.
      await storeKeys.reload(project, name, opened);
      return { next: progress, damaged };
    }
  }
  return { next, damaged: damaged + rows.length - changes.length };
}

function namesUnknownKey(store: OpenStore, rows: readonly OutdatedBody[]): boolean {
  const named = rows.map(({ body }) => dataKeyVersion(body));
  return named.some((version) => version !== null && !store.knowsDataKey(version));
}

/** Null when the body does not verify. It stays as it is, and so does its data key, for a backup may yet mend it. */
function sealAnew(store: OpenStore, { id, version, body }: OutdatedBody): BodyChange | null {
  const record = store.open(id, version, body);
  return record && { id, version, before: body, body: store.seal(id, version, record) };
}

/** After a pass: gives up what nothing is under, or says what keeps it. */
async function end(
  services: ReencryptServices,
  progress: Reencryption,
  proceed: () => Promise<boolean>,
): Promise<ReencryptOutcome | "again"> {
  const { keys, now } = services;
  if (progress.damaged > 0) {
    await keys.saveReencryption({ ...progress, endedAt: now() });
    return "kept";
  }
  const seen = await lookOver(services, progress, proceed);
  if (seen !== "clear") return seen;
  await deleteUnused(services, progress);
  await keys.endReencryption(progress);
  return "done";
}

/**
 * Whether nothing is under a data key below the target, seen in one go and without believing anything that was noted. A data
 * key is retired in a commit, after which no write under it can be committed; this began later. So nothing is under it, and
 * nothing will be.
 */
async function lookOver(
  { maintenance, storeKeys }: ReencryptServices,
  ref: Reencryption,
  proceed: () => Promise<boolean>,
): Promise<"clear" | "again" | "stopped" | "gone"> {
  const store = await storeKeys.open(ref.project, ref.store);
  if (store === null) return "gone";
  const upToDate = store.bodyStarts(ref.target);
  let place: VersionPlace | null = BEGIN;
  while (place !== null) {
    if (!(await proceed())) return "stopped";
    const { rows, next }: { rows: OutdatedBody[]; next: VersionPlace | null } = await maintenance.findOutdatedBodies(
      ref,
      upToDate,
      place,
      STEP,
    );
    if (rows.length > 0) return "again";
    place = next;
    await setImmediate();
  }
  return "clear";
}

async function deleteUnused({ keys, maintenance }: ReencryptServices, ref: Reencryption): Promise<void> {
  for (const { purpose, version, state } of await keys.wrappedKeys(ref.project, ref.store)) {
    if (purpose === "data" && state === "retired" && version < ref.target) await keys.deleteDataKey(ref, version);
  }
  await maintenance.scrub();
}
