/** The key providers a server is configured with, and which of them wraps new keys; spec/envelope.md § Key providers. */

import type { Directory } from "../storage/directory.js";
import { GuardedKeyProvider, type GuardOptions } from "./guarded-key-provider.js";
import { KeyProviderError, type KeyProvider } from "./key-provider.js";

/** Where the id of the active provider is kept, so that all servers on a database agree on it. */
export const ACTIVE_PROVIDER_SETTING = "key_provider";
/** Begin of the name under which the highest known version of a keyring is kept. */
const KEYRING_VERSION_SETTING = "keyring_version ";

type Settings = Pick<Directory, "getSetting" | "setSetting" | "replaceSetting">;

export class KeyProviders {
  readonly #settings: Settings;
  readonly #providers: ReadonlyMap<string, GuardedKeyProvider>;
  readonly #first: GuardedKeyProvider;

  /** At least one; the first is active until another has been activated. @throws {RangeError} when two have one id. */
  constructor(providers: readonly KeyProvider[], settings: Settings, options: GuardOptions = {}) {
    const guarded = providers.map((provider) => new GuardedKeyProvider(provider, options));
    const [first] = guarded;
    this.#providers = new Map(guarded.map((provider) => [provider.id, provider]));
    if (first === undefined || this.#providers.size !== guarded.length) {
      throw new RangeError("A server needs at least one key provider, and each only once.");
    }
    this.#first = first;
    this.#settings = settings;
  }

  /** For who only unwraps: nothing is kept of which provider is active. */
  static forUnwrapping(providers: readonly KeyProvider[]): KeyProviders {
    return new KeyProviders(providers, {
      getSetting: () => Promise.resolve(null),
      setSetting: () => Promise.resolve(),
      replaceSetting: () => Promise.resolve(true),
    });
  }

  /** Those that are configured, in their order. */
  all(): GuardedKeyProvider[] {
    return [...this.#providers.values()];
  }

  get(id: string): GuardedKeyProvider | undefined {
    return this.#providers.get(id);
  }

  /** The id of the provider that wraps new keys; it may be one that this server is not configured with. */
  async activeId(): Promise<string> {
    return (await this.#settings.getSetting(ACTIVE_PROVIDER_SETTING)) ?? this.#first.id;
  }

  /**
   * Notes which provider is active, on the first start: from then on only `activate` makes another one, and not the order in
   * which a server is configured with them. `needed`: ids that the database needs; while it needs none, any will do.
   */
  async settle(needed: readonly string[]): Promise<void> {
    const noted = await this.#settings.getSetting(ACTIVE_PROVIDER_SETTING);
    if (noted !== null && (needed.length > 0 || this.#providers.has(noted))) return;
    const [only, ...others] = needed;
    const inUse = only !== undefined && others.length === 0 ? this.#providers.get(only) : undefined;
    // Of two servers one is first, and the other finds out whether it can do with that.
    await this.#settings.replaceSetting(ACTIVE_PROVIDER_SETTING, noted, (inUse ?? this.#first).id);
  }

  /** @throws {KeyProviderError} when this server is not configured with it. */
  async active(): Promise<GuardedKeyProvider> {
    return this.require(await this.activeId());
  }

  /** Makes another provider wrap all new keys, of this server and of the others on its database. */
  async activate(provider: GuardedKeyProvider): Promise<void> {
    await this.#settings.setSetting(ACTIVE_PROVIDER_SETTING, provider.id);
  }

  /**
   * Makes a new version of the active provider's master key; null when that cannot be done here. Not in a keyring that lacks a
   * version which some server has made: it is an old copy of the file. The new version would have the number of that other
   * one and be another key, and whatever each of them wrapped would be lost to the other.
   *
   * @throws {KeyProviderError}
   */
  async rotate(provider: GuardedKeyProvider): Promise<number | null> {
    if (provider.masterKeys === undefined) return null;
    const fault = await this.outdated(provider);
    if (fault !== null) throw new KeyProviderError("refused", fault);
    const version = await provider.masterKeys.rotate();
    await this.noteVersion(provider, version);
    return version;
  }

  /** Keeps in mind that a keyring has this version, whoever has another copy of it. */
  async noteVersion(provider: GuardedKeyProvider, version: number): Promise<void> {
    if (provider.kind !== "local") return;
    const name = KEYRING_VERSION_SETTING + provider.id;
    for (;;) {
      const known = await this.#settings.getSetting(name);
      if (Number(known) >= version || (await this.#settings.replaceSetting(name, known, String(version)))) return;
    }
  }

  /** What is wrong with a keyring that is older than another copy of it, or null. @throws {KeyProviderError} */
  async outdated(provider: GuardedKeyProvider): Promise<string | null> {
    if (provider.kind !== "local") return null;
    const known = Number(await this.#settings.getSetting(KEYRING_VERSION_SETTING + provider.id));
    const current = await provider.currentVersion();
    if (known <= current) return null;
    return (
      `The keyring ${provider.id} is an old copy: its newest version is ${current}, and version ${known} was made. Put the newest ` +
      "keyring in its place. Servers on one database need one keyring file that all of them see, or another key provider."
    );
  }

  /** @throws {KeyProviderError} when this server is not configured with it. */
  require(id: string): GuardedKeyProvider {
    const provider = this.#providers.get(id);
    if (provider !== undefined) return provider;
    throw new KeyProviderError(
      "refused",
      `A store's keys are wrapped by key provider ${id}, but this server runs with ` +
        `${[...this.#providers.keys()].join(", ")}: start it with the provider (or keyring file) that made them as well.`,
    );
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.all().map((provider) => provider.close()));
  }
}
