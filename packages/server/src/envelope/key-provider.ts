/** Where master keys live (a KMS). They never leave it; store keys go in and come out wrapped. spec/envelope.md § Wrapping. */

import type { KeyPurpose } from "../storage/directory.js";

/** What a wrap is bound to: it opens for nothing else. */
export interface WrapContext {
  project: string;
  store: string;
  purpose: KeyPurpose;
  /** Version of the wrapped key. */
  version: number;
}

/** A store key under one master-key version. */
export interface Wrap {
  masterVersion: number;
  wrapped: Uint8Array;
}

/** Every call settles in bounded time; a provider that does not answer is `unavailable`. */
export interface KeyProvider {
  /** Names the provider and its key, for instance `local:4f1c…`; kept beside every wrap. */
  readonly id: string;
  /** Version of the master key that new wraps use. */
  currentVersion(): Promise<number>;
  /**
   * Wraps 32 bytes under the current master key.
   * @throws {KeyProviderError}
   */
  wrap(key: Uint8Array, context: WrapContext): Promise<Wrap>;
  /**
   * Gives back the 32 bytes of a wrap made with an equal context. They are the caller's, who overwrites them after use.
   * @throws {KeyProviderError}
   */
  unwrap(wrap: Wrap, context: WrapContext): Promise<Uint8Array>;
  /** Resolves when the provider can wrap and unwrap now. @throws {KeyProviderError} */
  health(): Promise<void>;
}

/** `unavailable`: may work later. `refused`: this wrap does not open under this provider's keys. */
export type KeyProviderFault = "unavailable" | "refused";

/** The provider failed. The message says what to do and holds no key. */
export class KeyProviderError extends Error {
  override name = "KeyProviderError";
  readonly fault: KeyProviderFault;
  constructor(fault: KeyProviderFault, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.fault = fault;
  }
}
