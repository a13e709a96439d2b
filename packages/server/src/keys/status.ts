/** The state of the keys, as an administrator sees it; spec/http.md § Keys. It never holds a number of records. */

import type { KeyProviderInfo, KeyStatus, MasterKeyInfo, ReencryptionInfo } from "@tacenda/protocol";

import type { GuardedKeyProvider } from "../envelope/guarded-key-provider.js";
import { KeyProviderError, type MasterKeyVersion } from "../envelope/key-provider.js";
import type { KeyProviders } from "../envelope/key-providers.js";
import type { KeyDirectory, Reencryption } from "../storage/key-directory.js";
import type { MasterRef } from "../storage/store-key.js";
import type { KeyKeeper } from "./key-keeper.js";
import { nextMasterRotation } from "./schedule.js";

export interface KeyStatusOptions {
  keys: KeyDirectory;
  providers: KeyProviders;
  keeper: KeyKeeper;
  /** Milliseconds after which a schedule rotates the master key, or null. */
  masterKeyPeriod: number | null;
}

type Counts = readonly (MasterRef & { wraps: number })[];

/** @throws {StorageError} A provider's failure is part of the answer. */
export async function keyStatus({ keys, providers, keeper, masterKeyPeriod }: KeyStatusOptions): Promise<KeyStatus> {
  const counts = await keys.countWraps();
  const retired = await keys.retiredMasters();
  const activeId = await providers.activeId();
  const configured = await Promise.all(providers.all().map((one) => describe(one, counts, retired)));
  const missing = new Set([activeId, ...counts.map(({ provider }) => provider)]);
  for (const { id } of configured) missing.delete(id);
  const all = [...configured, ...[...missing].map((id) => unconfigured(id, counts))].map((one) => ({
    ...one,
    active: one.id === activeId,
  }));
  const active = all.find((one) => one.active);
  return {
    providers: all,
    outdatedWraps: counts
      .filter((one) => one.provider !== activeId || one.masterVersion !== active?.currentVersion)
      .reduce((sum, { wraps }) => sum + wraps, 0),
    nextRotation: await nextMasterRotation(providers, masterKeyPeriod).catch(() => null),
    reencryptions: (await keys.reencryptions()).map(reencryptionInfo),
    failure: keeper.failure,
  };
}

/** Record ids are hashes, so how far a pass has come shows in the first bytes of the last one, without counting any. */
export function reencryptionInfo({ project, store, id, damaged, begunAt, endedAt }: Reencryption): ReencryptionInfo {
  const place = id.length < 4 ? 0 : Buffer.from(id).readUInt32BE(0) / 2 ** 32;
  const progress = endedAt === null ? Math.round(place * 1_000) / 1_000 : 1;
  return { project, store, progress, damaged: damaged > 0, begunAt, endedAt };
}

async function describe(provider: GuardedKeyProvider, counts: Counts, retired: readonly MasterRef[]) {
  const { id } = provider;
  const info = { id, configured: true, active: false };
  try {
    await provider.health();
    const currentVersion = await provider.currentVersion();
    const known = (await provider.masterKeys?.versions()) ?? [];
    return {
      ...info,
      health: "ok",
      currentVersion,
      versions: versionsOf(id, known, counts, retired),
    } satisfies KeyProviderInfo;
  } catch (error) {
    const health = error instanceof KeyProviderError ? error.fault : "unavailable";
    const message = error instanceof KeyProviderError ? error.message : "It failed. The server's log has the cause.";
    // What can still be told of it: a keyring with a damaged key, for instance.
    const known = (await provider.masterKeys?.versions().catch(() => [])) ?? [];
    const versions = versionsOf(id, known, counts, retired);
    return { ...info, health, message, currentVersion: null, versions } satisfies KeyProviderInfo;
  }
}

function unconfigured(id: string, counts: Counts): KeyProviderInfo {
  const message = "This server is not configured with it: add it with --key-provider, or --keyring, and restart.";
  const info = { id, configured: false, active: false, health: "unavailable", message, currentVersion: null } as const;
  return { ...info, versions: versionsOf(id, [], counts, []) };
}

/** What the provider knows of, and what the database refers to. */
function versionsOf(
  id: string,
  known: readonly MasterKeyVersion[],
  counts: Counts,
  retired: readonly MasterRef[],
): MasterKeyInfo[] {
  const versions = new Map<number, MasterKeyInfo>();
  for (const { version, createdAt, state } of known) versions.set(version, { version, createdAt, state, wraps: 0 });
  for (const { provider, masterVersion: version, wraps } of counts) {
    if (provider !== id) continue;
    versions.set(version, { createdAt: null, state: null, ...versions.get(version), version, wraps });
  }
  for (const { provider, masterVersion } of retired) {
    const info = provider === id ? versions.get(masterVersion) : undefined;
    // Retired in the database and not there yet: retiring it again completes it.
    if (info?.state === "enabled") versions.set(masterVersion, { ...info, state: "retired" });
  }
  return [...versions.values()].sort((a, b) => a.version - b.version);
}
