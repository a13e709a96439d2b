/** What a destruction leaves in the hands of who asked for it; spec/envelope.md § Destroying. */

import type { DestructionReceipt, MasterKeyRef } from "@tacenda/protocol";

import type { StoreRef } from "../storage/key-directory.js";
import type { WrappedKey } from "../storage/store-key.js";

/** Of a master-key version that was destroyed at `at` (milliseconds since the epoch). */
export function masterReceipt(master: MasterKeyRef, at: number): DestructionReceipt {
  const { provider, masterVersion } = master;
  return {
    destroyed: `master-key version ${masterVersion} of ${provider}`,
    at,
    keys: [master],
    stillOpenedBy: [
      `Wrapped keys that were under this version, in backups or copies of the database made while it was in use, open only ` +
        `with another copy of the version: a backup of the keyring, the token or the key server made before ${timeOf(at)}.`,
      "Store keys that were wrapped anew since are under a later version, and open with that.",
      "Only this server's database was looked at: another database that this key provider serves may have lost what was under it.",
    ],
  };
}

/**
 * Of a store whose wrapped keys were deleted at `at` (milliseconds since the epoch). With `named` it says where the master keys
 * are, which is the operator's business and not a project's administrator's.
 */
export function storeReceipt(
  { project, store }: StoreRef,
  keys: readonly WrappedKey[],
  at: number,
  { named }: { named: boolean },
): DestructionReceipt {
  const masters = new Map(keys.map((key) => [`${key.masterVersion} of ${key.provider}`, key]));
  return {
    destroyed: `store ${project}/${store}`,
    at,
    keys: keys.map(({ purpose, version, provider, masterVersion }) => ({
      ...{ purpose, version },
      ...(named && { provider, masterVersion }),
    })),
    stillOpenedBy: [
      `Backups of the records that were made before ${timeOf(at)} open only together with a backup of the wrapped keys from ` +
        "before then, and the master key that wraps those: the version that was current when that backup was made" +
        (named ? `, at last version ${[...masters.keys()].join(", version ")}.` : "."),
      "Rotating the master key, retiring the earlier versions and destroying them ends that too.",
    ],
  };
}

function timeOf(at: number): string {
  return new Date(at).toISOString();
}
