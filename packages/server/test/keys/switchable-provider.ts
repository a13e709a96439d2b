/** A real keyring behind a switch: what a test does to a key provider. */

import type { KeyProvider, MasterKeys, Wrap, WrapContext } from "../../src/envelope/key-provider.js";
import { KeyProviderError } from "../../src/envelope/key-provider.js";
import { openKeyring, type LocalKeyring } from "../../src/envelope/providers/local-keyring.js";

type Switch = "on" | "unavailable" | "refused" | "silent";

export interface SwitchableProvider extends KeyProvider {
  state: Switch;
  masterKeys: MasterKeys;
  readonly keyring: LocalKeyring;
  /** Called before each wrap of an existing key; may hold it up. */
  beforeWrap: () => Promise<void>;
}

/** Makes the keyring in `file` if there is none. */
export async function openSwitchable(file: string): Promise<SwitchableProvider> {
  const keyring = await openKeyring(file, { create: true });
  const pass = async <T>(work: () => Promise<T>): Promise<T> => {
    if (provider.state === "on") return await work();
    if (provider.state === "silent") return await new Promise<never>(() => {});
    throw new KeyProviderError(provider.state, `The key provider is ${provider.state}.`);
  };
  const provider: SwitchableProvider = {
    id: keyring.id,
    keyring,
    state: "on",
    masterKeys: keyring.masterKeys,
    beforeWrap: () => Promise.resolve(),
    currentVersion: () => pass(() => keyring.currentVersion()),
    async wrap(key: Uint8Array, context: WrapContext): Promise<Wrap> {
      const copy = Uint8Array.from(key);
      await provider.beforeWrap();
      return await pass(() => keyring.wrap(copy, context));
    },
    unwrap: (wrap: Wrap, context: WrapContext) => pass(() => keyring.unwrap(wrap, context)),
    health: () => pass(() => keyring.health()),
    close: () => keyring.close(),
  };
  return provider;
}
