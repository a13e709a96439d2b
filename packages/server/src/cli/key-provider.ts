/** The key providers that the flags of a command name; spec/envelope.md § Key providers. */

import { join, resolve } from "node:path";

import { KeyProviders } from "../envelope/key-providers.js";
import { openKeyProvider } from "../envelope/open-key-provider.js";

/** Which keys. */
export interface KeyFlags {
  dataDir: string;
  keyring?: string;
  keyProvider?: string[];
}

const LOCAL = "local:";

/**
 * Opens the providers for unwrapping. It never makes a keyring.
 * @throws {InvalidOptionError | StartupError} when a URI names none, or what it needs is missing.
 * @throws {KeyringError} when a keyring is missing or cannot be used.
 */
export async function openKeyProviders({ dataDir, keyring, keyProvider }: KeyFlags): Promise<KeyProviders> {
  const file = keyring ?? join(dataDir, "keyring.json");
  const uris = keyProvider ?? [LOCAL];
  const providers = await Promise.all(
    uris.map((uri) => {
      const full = uri.startsWith(LOCAL) ? LOCAL + resolve(uri.slice(LOCAL.length) || file) : uri;
      return openKeyProvider(full, { environment: process.env, create: false });
    }),
  );
  return KeyProviders.forUnwrapping(providers);
}
