/** AES-256-GCM as `nonce ‖ ciphertext ‖ tag`, for wraps and stored bodies; spec/envelope.md § Notation. */

import { createCipheriv, createDecipheriv, randomFillSync, type KeyObject } from "node:crypto";

const CIPHER = "aes-256-gcm";
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const OPTIONS = { authTagLength: TAG_BYTES };

/** What `sealInto` adds to the plaintext, in bytes. */
export const SEAL_BYTES = NONCE_BYTES + TAG_BYTES;

/**
 * Fills `target` from `offset` to its end with a fresh random nonce, the ciphertext and the tag; that must be exactly
 * SEAL_BYTES more than the plaintext.
 */
export function sealInto(
  target: Buffer,
  offset: number,
  key: KeyObject,
  additionalData: Uint8Array,
  plaintext: Uint8Array,
): void {
  const start = offset + NONCE_BYTES;
  randomFillSync(target, offset, NONCE_BYTES);
  const cipher = createCipheriv(CIPHER, key, target.subarray(offset, start), OPTIONS);
  cipher.setAAD(additionalData);
  target.set(cipher.update(plaintext), start);
  cipher.final();
  target.set(cipher.getAuthTag(), start + plaintext.length);
}

/** The plaintext of what `sealInto` wrote at `offset`, or null when it does not verify. */
export function openFrom(source: Buffer, offset: number, key: KeyObject, additionalData: Uint8Array): Buffer | null {
  const start = offset + NONCE_BYTES;
  const end = source.length - TAG_BYTES;
  if (end < start) return null;
  const decipher = createDecipheriv(CIPHER, key, source.subarray(offset, start), OPTIONS);
  decipher.setAAD(additionalData);
  decipher.setAuthTag(source.subarray(end));
  const plaintext = decipher.update(source.subarray(start, end));
  try {
    decipher.final();
  } catch {
    return null;
  }
  return plaintext;
}
