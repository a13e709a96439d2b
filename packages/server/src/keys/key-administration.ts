/** What an administrator asks of the running server's keys; spec/http.md § Keys. The work itself is the KeyKeeper's. */

import type { DestructionReceipt, KeyStatus, MasterKeyRef, StoreKeyStatus } from "@tacenda/protocol";

import type { GuardedKeyProvider } from "../envelope/guarded-key-provider.js";
import { KeyProviderError, type MasterKeys } from "../envelope/key-provider.js";
import type { StoreKeys } from "../envelope/store-keys.js";
import type { StoreRef } from "../storage/key-directory.js";
import { addDataKey } from "./data-keys.js";
import { masterReceipt } from "./receipts.js";
import { keyStatus, reencryptionInfo, type KeyStatusOptions } from "./status.js";

/** Stores that a refusal names. */
const NAMED_STORES = 10;

type KeyAdministrationFault = "invalid" | "in_use" | "unavailable";

/** The keys are not in a state for what was asked; the message says what is in the way and what to do. */
export class KeyAdministrationError extends Error {
  override name = "KeyAdministrationError";
  /**
   * `invalid`: no such provider or version, or it cannot do this. `in_use`: something is in the way. `unavailable`: the provider
   * fails.
   */
  readonly fault: KeyAdministrationFault;
  constructor(fault: KeyAdministrationFault, message: string, options?: ErrorOptions) {
    super(message, options);
    this.fault = fault;
  }
}

export interface KeyAdministrationOptions extends KeyStatusOptions {
  storeKeys: StoreKeys;
  /** Milliseconds since the epoch. */
  now: () => number;
}

/** A version of a master key, as it is asked for; of the active provider when none is named. */
export interface MasterKeyQuery {
  provider?: string | undefined;
  version: number;
}

/** All calls throw KeyProviderError when a provider fails, and StorageError when the database does. */
export class KeyAdministration {
  readonly #options: KeyAdministrationOptions;

  constructor(options: KeyAdministrationOptions) {
    this.#options = options;
  }

  /** The state of all keys. */
  async status(): Promise<KeyStatus> {
    return await keyStatus(this.#options);
  }

  /**
   * Makes a new master-key version, and has every store key wrapped under it in the background.
   * @throws {KeyAdministrationError}
   */
  async rotate(): Promise<MasterKeyRef> {
    const { providers, keeper } = this.#options;
    const provider = await providers.active();
    const masterVersion = await providers.rotate(provider).catch(rethrow);
    if (masterVersion === null) throw managedElsewhere(provider);
    keeper.wake();
    return { provider: provider.id, masterVersion };
  }

  /**
   * Makes another configured provider the active one, and has every store key wrapped by it in the background. `to` is its
   * id, or the beginning of it up to a colon or longer, if only one has it.
   * @throws {KeyAdministrationError}
   */
  async migrate(to: string): Promise<MasterKeyRef> {
    const { providers, keeper } = this.#options;
    const provider = this.#find(to);
    // It is seen to work before anything depends on it.
    const masterVersion = await provider
      .health()
      .then(() => provider.currentVersion())
      .catch(rethrow);
    await providers.activate(provider);
    keeper.wake();
    return { provider: provider.id, masterVersion };
  }

  /**
   * Retires a master-key version: it wraps and unwraps nothing any more, until it is reinstated.
   * @throws {KeyAdministrationError} while anything is wrapped under it, or it is the one that wraps.
   */
  async retire(query: MasterKeyQuery): Promise<MasterKeyRef> {
    const { keys, now } = this.#options;
    const { provider, master, known } = await this.#version(query);
    const { masterKeys } = provider;
    if (masterKeys?.retire === undefined) throw unsupported(provider, masterKeys, "retire");
    if (known.state === "destroyed") throw inUse(`${nameOf(master)} was destroyed.`);
    if ((await provider.currentVersion().catch(rethrow)) === master.masterVersion) {
      throw inUse(
        `${nameOf(master)} is the current one: rotate first. If nothing refers to this provider any more, take it out of ` +
          "the server's configuration instead.",
      );
    }
    // First in the database, where it is one commit with the check: from then on no wrap can come to be under it.
    const noted = await keys.retireMaster(master, now());
    if (noted === "in_use") throw await this.#referred(master);
    try {
      await masterKeys.retire(master.masterVersion);
    } catch (error) {
      // Refused, it is as before; of a provider that is away nobody knows, and the next attempt completes it.
      if (noted === "retired" && isRefused(error)) await keys.reinstateMaster(master);
      throw explained(error);
    }
    return master;
  }

  /** Takes `retire` back. @throws {KeyAdministrationError} */
  async reinstate(query: MasterKeyQuery): Promise<MasterKeyRef> {
    const { provider, master, known } = await this.#version(query);
    const { masterKeys } = provider;
    if (masterKeys?.reinstate === undefined) throw unsupported(provider, masterKeys, "reinstate");
    if (known.state === "destroyed") throw inUse(`${nameOf(master)} was destroyed, and cannot come back.`);
    await masterKeys.reinstate(master.masterVersion).catch(rethrow);
    await this.#options.keys.reinstateMaster(master);
    return master;
  }

  /**
   * Destroys a retired master-key version for good.
   * @throws {KeyAdministrationError} unless it is retired.
   */
  async destroy(query: MasterKeyQuery): Promise<DestructionReceipt> {
    const { keys, now } = this.#options;
    const { provider, master, known } = await this.#version(query);
    const { masterKeys } = provider;
    if (masterKeys?.destroy === undefined) throw unsupported(provider, masterKeys, "destroy");
    const retired = await keys.retiredMasters();
    const isRetired = retired.some(
      (one) => one.provider === master.provider && one.masterVersion === master.masterVersion,
    );
    if (!isRetired) {
      const used = (await keys.storesUnder(master, 1)).length > 0;
      throw used ? await this.#referred(master) : inUse(`${nameOf(master)} is not retired: retire it first.`);
    }
    // Retired in the database only, when a crash came between: here it is brought to its end.
    if (known.state === "enabled") await masterKeys.retire?.(master.masterVersion).catch(rethrow);
    await masterKeys.destroy(master.masterVersion).catch(rethrow);
    return masterReceipt(master, now());
  }

  /** The keys of a store, without the keys. Null when there is no such store. */
  async ofStore(ref: StoreRef): Promise<StoreKeyStatus | null> {
    const { keys } = this.#options;
    const wrapped = await keys.wrappedKeys(ref.project, ref.store);
    if (wrapped.length === 0) return null;
    const progress = await keys.reencryption(ref);
    return {
      keys: wrapped.map(({ purpose, version, state, createdAt, provider, masterVersion }) => ({
        ...{ purpose, version, state, createdAt, provider, masterVersion },
      })),
      reencryption: progress && reencryptionInfo(progress),
    };
  }

  /** Gives a store a new data key for all new writes. Its version; null when there is no such store. */
  async rotateDataKey(ref: StoreRef): Promise<number | null> {
    const { keys, storeKeys, now } = this.#options;
    return await addDataKey({ keys, storeKeys }, ref, now());
  }

  /** Has all that a store holds encrypted under its newest data key, in the background. False when there is no such store. */
  async reencrypt(ref: StoreRef): Promise<boolean> {
    const { keys, keeper, now } = this.#options;
    const begun = await keys.beginReencryption(ref, now());
    if (begun) keeper.wake();
    return begun;
  }

  async #version({ provider: id, version }: MasterKeyQuery) {
    const provider = id === undefined ? await this.#options.providers.active() : this.#exactly(id);
    const known = (await this.#masterKeysOf(provider).versions().catch(rethrow)).find((one) => one.version === version);
    if (known === undefined) {
      throw new KeyAdministrationError(
        "invalid",
        `The key provider ${provider.id} has no master-key version ${version}.`,
      );
    }
    return { provider, known, master: { provider: provider.id, masterVersion: version } };
  }

  /** By its whole id: what is done to a version is not done by a slip of the hand. */
  #exactly(id: string): GuardedKeyProvider {
    const provider = this.#options.providers.get(id);
    if (provider !== undefined) return provider;
    const ids = this.#options.providers.all().map((one) => one.id);
    throw new KeyAdministrationError(
      "invalid",
      `No key provider of this server has that id. They are: ${ids.join(", ")}.`,
    );
  }

  #find(wanted: string): GuardedKeyProvider {
    const all = this.#options.providers.all();
    const found = all.filter(({ id }) => id === wanted);
    const matching = found.length > 0 ? found : all.filter(({ id, kind }) => kind === wanted || id.startsWith(wanted));
    const [provider] = matching;
    if (provider !== undefined && matching.length === 1) return provider;
    const which =
      provider === undefined ? "No key provider of this server has that name" : "Several key providers match";
    throw new KeyAdministrationError(
      "invalid",
      `${which}: it is configured with ${all.map(({ id }) => id).join(", ")}. Add others with --key-provider and restart.`,
    );
  }

  #masterKeysOf(provider: GuardedKeyProvider): MasterKeys {
    if (provider.masterKeys !== undefined) return provider.masterKeys;
    throw managedElsewhere(provider);
  }

  async #referred(master: MasterKeyRef): Promise<KeyAdministrationError> {
    const stores = await this.#options.keys.storesUnder(master, NAMED_STORES + 1);
    const names = stores.slice(0, NAMED_STORES).map(({ project, store }) => `${project}/${store}`);
    const more = stores.length > NAMED_STORES ? " and others" : "";
    return inUse(
      `${nameOf(master)} wraps keys of ${names.join(", ")}${more}: wait until they are wrapped anew (keys status), or destroy ` +
        "those stores.",
    );
  }
}

function isRefused(error: unknown): boolean {
  return error instanceof KeyProviderError && error.fault === "refused";
}

/** What a provider says to an administrator, it says for an administrator: other callers are told less. */
function explained(error: unknown): unknown {
  if (!(error instanceof KeyProviderError)) return error;
  return new KeyAdministrationError(isRefused(error) ? "in_use" : "unavailable", error.message, { cause: error });
}

function rethrow(error: unknown): never {
  throw explained(error);
}

function nameOf({ provider, masterVersion }: MasterKeyRef): string {
  return `Master-key version ${masterVersion} of ${provider}`;
}

function managedElsewhere({ id }: GuardedKeyProvider): KeyAdministrationError {
  return new KeyAdministrationError("invalid", `The master keys of ${id} are managed where they are, not here.`);
}

function inUse(message: string): KeyAdministrationError {
  return new KeyAdministrationError("in_use", message);
}

function unsupported(provider: GuardedKeyProvider, masterKeys: MasterKeys | undefined, what: string) {
  return new KeyAdministrationError(
    "invalid",
    `The key provider ${provider.id} cannot ${what} single versions. ${masterKeys?.instead ?? ""}`.trimEnd(),
  );
}
