/** Where master keys live (a KMS). They never leave it; store keys go in and come out wrapped. spec/envelope.md § Wrapping. */

import type { KeyPurpose } from "../storage/store-key.js";

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
  /** Names the provider and its key, for instance `local:4f1c…`; kept beside every wrap. At most 512 characters. */
  readonly id: string;
  /** Version of the master key that new wraps use. @throws {KeyProviderError} */
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
  /**
   * Wraps under the current master key what this provider has wrapped before, without giving the key out. Where it is
   * absent, unwrapping and wrapping does the same.
   * @throws {KeyProviderError}
   */
  rewrap?(wrap: Wrap, context: WrapContext): Promise<Wrap>;
  /** Resolves when the provider can wrap and unwrap now. @throws {KeyProviderError} */
  health(): Promise<void>;
  /** What it can do with its master keys; absent when they are managed elsewhere. */
  readonly masterKeys?: MasterKeys;
  /** Gives sessions and connections back. No call is made after it. */
  close(): Promise<void>;
}

/**
 * Master-key versions and their life: enabled → retired → destroyed. All calls are durable when they resolve, may be
 * repeated, and throw KeyProviderError. What a provider cannot do is absent, and `instead` says what to do there.
 */
export interface MasterKeys {
  /** All versions the provider knows of, ascending. */
  versions(): Promise<MasterKeyVersion[]>;
  /** Makes a new version, which new wraps use from now on, and returns it. Earlier ones still unwrap. */
  rotate(): Promise<number>;
  /** The version unwraps nothing any more, until it is reinstated. The caller has seen to it that nothing needs it. */
  retire?(version: number): Promise<void>;
  /** Takes back `retire`. */
  reinstate?(version: number): Promise<void>;
  /** Destroys the key of a retired version, for good. */
  destroy?(version: number): Promise<void>;
  /** False where rotating costs something that a schedule must not spend by itself. */
  readonly scheduled: boolean;
  /** What to do where `retire` or `destroy` is absent, in a sentence. */
  readonly instead?: string;
}

export interface MasterKeyVersion {
  /** 1, 2, 3 …, at most 2^32−1. */
  version: number;
  /** Milliseconds since the epoch; null when the provider does not tell. */
  createdAt: number | null;
  /** `damaged`: its key is there and cannot be used. */
  state: "enabled" | "retired" | "destroyed" | "damaged";
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
