/**
 * The life of a transit key's versions. The engine knows two lower bounds rather than a state per version, so that versions
 * are retired and destroyed from the lowest on, and reinstated from the highest; spec/envelope.md § Transit.
 */

import { KeyProviderError, type MasterKeys, type MasterKeyVersion } from "../key-provider.js";
import { stateOf, versionsOf, type KeyDescription, type TransitKey } from "./transit-key.js";

export class TransitMasterKeys implements MasterKeys {
  /** A rotation costs nothing. With auto_rotate_period the engine rotates by itself, and versions stay young. */
  readonly scheduled = true;
  readonly #key: TransitKey;
  readonly #id: string;
  /** Changes come one after the other: the engine has no compare-and-swap. */
  #changing: Promise<unknown> = Promise.resolve();

  constructor(key: TransitKey, id: string) {
    this.#key = key;
    this.#id = id;
  }

  async versions(): Promise<MasterKeyVersion[]> {
    return versionsOf(await this.#key.describe({ fresh: true }));
  }

  rotate(): Promise<number> {
    return this.#inTurn(async () => {
      const before = await this.#key.describeFit({ fresh: true });
      if (before.imported_key === true && before.imported_key_allow_rotation !== true) {
        throw this.#refused("was imported without allow_rotation=true, and the engine makes no new version of it");
      }
      const { latest_version } = await this.#key.change("rotate");
      if (latest_version <= before.latest_version) throw this.#unseen("rotation");
      return latest_version;
    });
  }

  retire(version: number): Promise<void> {
    return this.#inTurn(async () => {
      const key = await this.#describe(version);
      const state = stateOf(key, version);
      if (state === "retired") return;
      if (state === "destroyed") throw this.#refused(`has destroyed version ${version}: there is nothing to retire`);
      if (version === key.latest_version) {
        throw this.#refused(`has version ${version} as its current one: rotate first`);
      }
      const lowest = Math.max(key.min_decryption_version, 1);
      if (lowest < version) {
        throw this.#refused(
          `retires its versions in order, and ${range(lowest, version - 1)} would be retired with version ${version}: ` +
            "retire earlier ones first",
        );
      }
      // The engine wants min_encryption_version, where it is set, to be no lower. New wraps use the latest in any case.
      const isSet = key.min_encryption_version > 0;
      const after = await this.#key.change("config", {
        min_decryption_version: version + 1,
        ...(isSet ? { min_encryption_version: Math.max(key.min_encryption_version, version + 1) } : {}),
      });
      if (stateOf(after, version) === "enabled") throw this.#unseen("retirement");
    });
  }

  reinstate(version: number): Promise<void> {
    return this.#inTurn(async () => {
      const key = await this.#describe(version);
      const state = stateOf(key, version);
      if (state === "enabled") return;
      if (state === "destroyed") throw this.#refused(`has destroyed version ${version}, for good`);
      const highest = key.min_decryption_version - 1;
      if (version < highest) {
        throw this.#refused(
          `reinstates its versions in order, and ${range(version + 1, highest)} would be reinstated with version ` +
            `${version}: reinstate later ones first`,
        );
      }
      const after = await this.#key.change("config", { min_decryption_version: version });
      if (stateOf(after, version) !== "enabled") throw this.#unseen("reinstatement");
    });
  }

  destroy(version: number): Promise<void> {
    return this.#inTurn(async () => {
      const key = await this.#describe(version);
      const state = stateOf(key, version);
      if (state === "destroyed") return;
      if (state !== "retired") throw this.#refused(`has version ${version} ${state}: retire it before it is destroyed`);
      const lowest = Math.max(key.min_available_version ?? 0, 1);
      if (lowest < version) {
        throw this.#refused(
          `destroys its versions in order, and ${range(lowest, version - 1)} would be destroyed with version ${version}: ` +
            "destroy earlier ones first",
        );
      }
      // Trimming wants it set and above what is trimmed, the engine no lower than min_decryption_version. New wraps use the
      // latest version in any case.
      if (key.min_encryption_version <= version) {
        await this.#key.change("config", { min_encryption_version: key.min_decryption_version });
      }
      const after = await this.#key.change("trim", { min_available_version: version + 1 });
      if (stateOf(after, version) !== "destroyed") throw this.#unseen("destruction");
    });
  }

  async #describe(version: number): Promise<KeyDescription> {
    const key = await this.#key.describe({ fresh: true });
    if (Number.isSafeInteger(version) && version >= 1 && version <= key.latest_version) return key;
    throw this.#refused(`has no version ${version}`);
  }

  #inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#changing.then(work);
    this.#changing = result.catch(() => undefined);
    return result;
  }

  #refused(what: string): KeyProviderError {
    return new KeyProviderError("refused", `The key ${this.#id} ${what}.`);
  }

  /** Somebody else has changed the key, or a standby has answered. */
  #unseen(what: string): KeyProviderError {
    return new KeyProviderError(
      "unavailable",
      `The key ${this.#id} does not show the ${what}: look at its versions, and repeat it where it is missing.`,
    );
  }
}

function range(first: number, last: number): string {
  return first === last ? `version ${first}` : `versions ${first} to ${last}`;
}
