/** Generated secrets, 256 bits and a checksum; spec/record.md § Generated secrets. */

import { sha256 } from "@noble/hashes/sha2.js";
import {
  RANDOM_LENGTH,
  SECRET_PREFIX,
  checksumText,
  hasSecretForm,
  randomBase62,
  splitChecksum,
} from "@tacenda/protocol";

import { utf8 } from "./bytes.js";

/**
 * Makes a secret of 256 random bits: `tcs_`, 43 base-62 characters, a checksum of six. The secret is the whole string.
 * Keep it where the server's operators cannot read it; nobody can recover it.
 *
 * @example
 * const secret = generateSecret(); // "tcs_…", 53 characters
 */
export function generateSecret(): string {
  const body = SECRET_PREFIX + randomBase62(RANDOM_LENGTH, (length) => crypto.getRandomValues(new Uint8Array(length)));
  return body + checksumText(sha256(utf8(body)));
}

/** Whether a text that begins with `tcs_` is whole: right length, alphabet and checksum. */
export function isWholeGeneratedSecret(secret: string): boolean {
  const [body, checksum] = splitChecksum(secret);
  return hasSecretForm(secret) && checksumText(sha256(utf8(body))) === checksum;
}
