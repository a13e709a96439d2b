/** What a wrap is bound to, in bytes, and the wraps of providers that hold an AES key; spec/envelope.md § Wrapping. */

import { SEAL_BYTES } from "../aead.js";
import { asBuffer, lp, u32 } from "../bytes.js";
import { KeyProviderError, type Wrap, type WrapContext } from "../key-provider.js";

/** Bytes of a store key. */
export const WRAPPED_KEY_BYTES = 32;

const WRAP_FORMAT = 1;
/** Format and master-key version, before the nonce. */
export const SEAL_OFFSET = 1 + 4;
const WRAP_BYTES = SEAL_OFFSET + WRAPPED_KEY_BYTES + SEAL_BYTES;

/** The context as bytes: equal for equal contexts only. */
export function contextBytes({ project, store, purpose, version }: WrapContext): Buffer {
  return Buffer.concat([lp("tacenda/1/wrap"), lp(project), lp(store), lp(purpose), u32(version)]);
}

/** Additional data of a wrap: the context, and the master key that made it. */
export function additionalData(context: WrapContext, masterVersion: number): Buffer {
  return Buffer.concat([contextBytes(context), u32(masterVersion)]);
}

/** A wrap with its format and master-key version in place, and zeros from SEAL_OFFSET on for what is to be sealed. */
export function emptyWrap(masterVersion: number): Buffer {
  const wrapped = Buffer.alloc(WRAP_BYTES);
  wrapped[0] = WRAP_FORMAT;
  wrapped.writeUInt32BE(masterVersion, 1);
  return wrapped;
}

/** The bytes of a wrap of this format, or null when it is none, or not of the version that is kept beside it. */
export function checkedWrap({ wrapped, masterVersion }: Wrap): Buffer | null {
  const bytes = asBuffer(wrapped);
  const isSound = bytes.length === WRAP_BYTES && bytes[0] === WRAP_FORMAT && bytes.readUInt32BE(1) === masterVersion;
  return isSound ? bytes : null;
}

/** @throws {KeyProviderError} unless `key` has the 32 bytes of a store key. */
export function checkStoreKey(key: Uint8Array): void {
  if (key.length === WRAPPED_KEY_BYTES) return;
  throw new KeyProviderError("refused", `Only keys of ${WRAPPED_KEY_BYTES} bytes can be wrapped.`);
}

/** A wrap that does not verify under `providerId`; why is not said. */
export function refusedWrap(providerId: string, options?: { cause?: unknown }): KeyProviderError {
  return new KeyProviderError(
    "refused",
    `A wrapped store key does not open under the key provider ${providerId}: it was damaged or edited in the database, ` +
      "or wrapped by another key. Restore the database's keys from a backup.",
    options,
  );
}
