/** The key provider that the flags of a command name; spec/envelope.md § Wrapping. */

import { join, resolve } from "node:path";

import type { KeyProvider } from "../envelope/key-provider.js";
import { openKeyring } from "../envelope/local-keyring.js";

/** Which keys. */
export interface KeyFlags {
  dataDir: string;
  keyring?: string;
}

/** Opens the provider. It never makes a keyring. @throws {KeyringError} when it is missing or cannot be used. */
export async function openKeyProvider({ dataDir, keyring }: KeyFlags): Promise<KeyProvider> {
  return await openKeyring(resolve(keyring ?? join(dataDir, "keyring.json")), { create: false });
}
