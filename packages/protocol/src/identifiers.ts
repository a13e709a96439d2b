/** Names that appear in URLs, and entity tags; spec/http.md § Identifiers. */

import { fromBase64url, toBase64url } from "./base64url.js";
import { MAX_VERSION } from "./limits.js";

/** What a project id and a store id look like. */
export const ID_PATTERN = /^[a-z0-9][a-z0-9_-]{0,62}$/;
/** The project that exists from the first start. */
export const DEFAULT_PROJECT = "default";

/** Whether `text` can be the id of a project or a store. */
export function isId(text: string): boolean {
  return ID_PATTERN.test(text);
}

/** Bytes of a key hash. */
export const KEY_HASH_BYTES = 32;

/** A key hash as it stands in a path: 43 characters. */
export function encodeKeyHash(keyHash: Uint8Array): string {
  return toBase64url(keyHash);
}

/** The 32 bytes of a key hash, or null when `text` is not their one canonical form. */
export function decodeKeyHash(text: string): Uint8Array<ArrayBuffer> | null {
  if (text.length !== 43) return null;
  return fromBase64url(text);
}

/** Path of a record below the server's URL, without a leading slash. */
export function recordPath(project: string, store: string, keyHash: Uint8Array): string {
  return `${storePath(project, store)}/records/${encodeKeyHash(keyHash)}`;
}

/** Path of a store below the server's URL, without a leading slash. */
export function storePath(project: string, store: string): string {
  return `v1/projects/${project}/stores/${store}`;
}

/** The strong entity tag of a version. */
export function versionTag(version: number): string {
  return `"${version}"`;
}

/** The version named by a strong entity tag, or null when it names none (1 … 2^53−1, no leading zero). */
export function parseVersionTag(tag: string): number | null {
  const digits = /^"([1-9][0-9]{0,15})"$/.exec(tag)?.[1];
  return digits === undefined ? null : parseVersion(digits);
}

/** A version in decimal digits, or null when it is none. */
export function parseVersion(digits: string): number | null {
  if (!/^[1-9][0-9]{0,15}$/.test(digits)) return null;
  const version = Number(digits);
  return version <= MAX_VERSION ? version : null;
}
