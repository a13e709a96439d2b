/** Making and checking the texts of tokens; spec/http.md § Tokens. The database keeps a SHA-256, never the text. */

import { hash, randomBytes, timingSafeEqual } from "node:crypto";

import {
  RANDOM_LENGTH,
  TOKEN_ID_LENGTH,
  TOKEN_PREFIX,
  checksumText,
  randomBase62,
  splitChecksum,
} from "@tacenda/protocol";

/** A token that was just made. */
export interface NewTokenText {
  /** Its public id, 12 characters. */
  id: string;
  /** The whole token, to be shown once. */
  text: string;
  /** SHA-256 of the text, 32 bytes. */
  digest: Uint8Array;
}

/** SHA-256 of a token's text, 32 bytes. */
export function digestToken(text: string): Uint8Array {
  return hash("sha256", text, "buffer");
}

/** Appends the checksum that ends tokens and generated secrets. */
export function withChecksum(body: string): string {
  return body + checksumText(digestToken(body));
}

/** Whether a token ends in its own checksum: a typo is caught before any look-up. */
export function hasValidChecksum(text: string): boolean {
  const [body, checksum] = splitChecksum(text);
  const expected = checksumText(digestToken(body));
  return checksum.length === expected.length && timingSafeEqual(Buffer.from(checksum), Buffer.from(expected));
}

/** Makes a token with a fresh id and 256 random bits. */
export function newToken(): NewTokenText {
  const id = randomBase62(TOKEN_ID_LENGTH, randomBytes);
  const text = withChecksum(TOKEN_PREFIX + id + randomBase62(RANDOM_LENGTH, randomBytes));
  return { id, text, digest: digestToken(text) };
}
