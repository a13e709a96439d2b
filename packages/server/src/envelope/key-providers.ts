/** The key providers a server is configured with, and which of them wraps new keys; spec/envelope.md § Key providers. */

import type { Directory } from "../storage/directory.js";
import { GuardedKeyProvider, type GuardOptions } from "./guarded-key-provider.js";
import { KeyProviderError, type KeyProvider } from "./key-provider.js";

/** Where the id of the active provider is kept, so that all servers on a database agree on it. */
export const ACTIVE_PROVIDER_SETTING = "key_provider";

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
