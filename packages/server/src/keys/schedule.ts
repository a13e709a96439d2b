/** When master keys and data keys are rotated by themselves; spec/envelope.md § Rotating master keys, § Rotating data keys. */

import type { KeyProviders } from "../envelope/key-providers.js";
import type { KeyDirectory } from "../storage/key-directory.js";
import { addDataKey, type DataKeyServices } from "./data-keys.js";

/** Stores whose data keys one look rotates at most. */
const MAX_STORES = 100;

/** How old keys may become, in milliseconds; null for ever. */
export interface RotationPeriods {
  masterKey: number | null;
  dataKey: number | null;
}

/**
 * When the active provider's master key becomes older than `period`, in milliseconds since the epoch; null when no schedule
 * rotates it, or the provider does not tell.
 *
 * @throws {KeyProviderError}
 */
export async function nextMasterRotation(providers: KeyProviders, period: number | null): Promise<number | null> {
  const provider = await providers.active();
  const { masterKeys } = provider;
  if (period === null || masterKeys?.scheduled !== true) return null;
  const current = await provider.currentVersion();
  const createdAt = (await masterKeys.versions()).find(({ version }) => version === current)?.createdAt ?? null;
  return createdAt === null ? null : createdAt + period;
}

/** Whether the schedule has something to do. @throws {KeyProviderError} */
export async function isRotationDue(
  { keys, providers }: { keys: KeyDirectory; providers: KeyProviders },
  { masterKey, dataKey }: RotationPeriods,
  now: number,
): Promise<boolean> {
  const due = await nextMasterRotation(providers, masterKey);
  if (due !== null && due <= now) return true;
  return dataKey !== null && (await keys.storesWithDataKeyBefore(now - dataKey, 1)).length > 0;
}

/** Rotates the master key if it is due. Gives the new version, or null. @throws {KeyProviderError} */
export async function rotateDueMaster(
  providers: KeyProviders,
  period: number | null,
  now: number,
): Promise<number | null> {
  const due = await nextMasterRotation(providers, period);
  if (due === null || due > now) return null;
  return await providers.rotate(await providers.active());
}

/** Gives new data keys to stores whose newest one is due. Gives their number. @throws {KeyProviderError} */
export async function rotateDueDataKeys(
  services: DataKeyServices & { keys: KeyDirectory },
  period: number | null,
  now: number,
): Promise<number> {
  if (period === null) return 0;
  const due = await services.keys.storesWithDataKeyBefore(now - period, MAX_STORES);
  let rotated = 0;
  // Each is looked at once more: another server may have come first, if this one was held up.
  for (const ref of due) if ((await addDataKey(services, ref, now, now - period)) !== null) rotated++;
  return rotated;
}
