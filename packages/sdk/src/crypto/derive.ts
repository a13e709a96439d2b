/** From a secret and a key to what the server gets and what it never gets; spec/record.md § Deriving. */

import { expand } from "@noble/hashes/hkdf.js";
import { hmac } from "@noble/hashes/hmac.js";
import { pbkdf2Async as purePbkdf2 } from "@noble/hashes/pbkdf2.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { pbkdf2 as nativePbkdf2, sha256 as nativeSha256 } from "@noble/hashes/webcrypto.js";

import { type Bytes, concat, lp, u32, u8, utf8 } from "./bytes.js";

/** Iterations of PBKDF2: the default and least, and the most a caller may ask for. No server ever changes them. */
export const MIN_ITERATIONS = 100_000;
export const MAX_ITERATIONS = 10_000_000;

/** Whether each key pays a PBKDF2 of its own (`key`), or one per process and store serves all its keys (`store`). */
export type Stretch = "key" | "store";

/** Where a key lives, and at what cost it is derived. Everything here is bound into the derivation. */
export interface DerivationScope {
  project: string;
  storeId: string;
  /** 100,000 … 10,000,000. */
  iterations: number;
}

/** All that sealing and opening need to know of a key. It says nothing of the secret, so one entry can be shared. */
export interface RecordKeys {
  /** 32 bytes; the server knows the key by it. */
  keyHash: Uint8Array;
  /** 32 bytes; never leaves the process. */
  valueKey: Uint8Array;
}

const DERIVE_LABEL = lp(utf8("tacenda/1/derive"));
const Purpose = { key: 0, store: 1, keyOfStore: 2 } as const;

/**
 * Hashes the secret once, with its length: PBKDF2 alone would take "abc" and "abc\0", or a long secret and its digest,
 * for the same password.
 */
export function hashSecret(secret: Uint8Array): Bytes {
  return Uint8Array.from(sha256(concat(lp(utf8("tacenda/1/secret")), lp(secret))));
}

/** The root of one key, stretch "key": one PBKDF2. `key` is the logical key's UTF-8, 1 … 1,024 bytes. */
export function deriveKeyRoot(secretHash: Uint8Array, scope: DerivationScope, key: Uint8Array): Promise<Uint8Array> {
  return stretch(secretHash, scope, Purpose.key, key);
}

/** The root of a whole store: one PBKDF2. */
export function deriveStoreRoot(secretHash: Uint8Array, scope: DerivationScope): Promise<Uint8Array> {
  return stretch(secretHash, scope, Purpose.store, new Uint8Array(0));
}

/** The root of one key, stretch "store": one HMAC under the store's root. */
export function keyRootOfStore(storeRoot: Uint8Array, key: Uint8Array): Uint8Array {
  return hmac(sha256, storeRoot, concat(DERIVE_LABEL, u8(Purpose.keyOfStore), lp(key)));
}

/** The key hash and the value key of a root. Distinct labels: neither tells anything of the other. */
export function recordKeys(root: Uint8Array): RecordKeys {
  return {
    keyHash: expand(sha256, root, utf8("tacenda/1/key-hash"), 32),
    valueKey: expand(sha256, root, utf8("tacenda/1/value-key"), 32),
  };
}

/** 32 bytes by which a server can tell that two clients of a store have the same secret, and nothing else. */
export function secretCheck(storeRoot: Uint8Array, stretch: Stretch): Uint8Array {
  return expand(sha256, storeRoot, utf8(`tacenda/1/secret-check/${stretch}`), 32);
}

/**
 * WebCrypto's PBKDF2 wherever there is one. The pure one serves only runtimes without any: a runtime that refuses the
 * iteration count throws, rather than take a detour that blocks it for seconds.
 */
async function stretch(
  secretHash: Uint8Array,
  scope: DerivationScope,
  purpose: number,
  key: Uint8Array,
): Promise<Uint8Array> {
  const salt = concat(
    DERIVE_LABEL,
    u8(purpose),
    u32(scope.iterations),
    lp(utf8(scope.project)),
    lp(utf8(scope.storeId)),
    lp(key),
  );
  const options = { c: scope.iterations, dkLen: 32 };
  const subtle = (globalThis.crypto as Crypto | undefined)?.subtle;
  return subtle === undefined
    ? await purePbkdf2(sha256, secretHash, salt, options)
    : await nativePbkdf2(nativeSha256, secretHash, salt, options);
}
