/** The envelope computed a second time, slowly and from spec/envelope.md alone; shares no code with src/envelope. */

import { createCipheriv, createDecipheriv, createHash, createHmac } from "node:crypto";

function u8(value: number): Buffer {
  return Buffer.from([value]);
}

function u32(value: number): Buffer {
  return Buffer.from(value.toString(16).padStart(8, "0"), "hex");
}

function u64(value: number): Buffer {
  return Buffer.from(value.toString(16).padStart(16, "0"), "hex");
}

function lp(text: string): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([u32(bytes.length), bytes]);
}

function hmac(key: Uint8Array, ...parts: Uint8Array[]): Buffer {
  return createHmac("sha256", key).update(Buffer.concat(parts)).digest();
}

function sha256(...parts: Uint8Array[]): Buffer {
  return createHash("sha256").update(Buffer.concat(parts)).digest();
}

function gcmSeal(key: Uint8Array, nonce: Uint8Array, additionalData: Uint8Array, plaintext: Uint8Array): Buffer {
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(additionalData);
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

function gcmOpen(key: Uint8Array, nonce: Uint8Array, additionalData: Uint8Array, sealed: Buffer): Buffer {
  const decipher = createDecipheriv("aes-256-gcm", key, nonce);
  decipher.setAAD(additionalData);
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
}

export function recordId(indexKey: Uint8Array, keyHash: Uint8Array): Buffer {
  return hmac(indexKey, lp("tacenda/1/record-id"), keyHash);
}

export interface Place {
  project: string;
  store: string;
  recordId: Uint8Array;
  version: number;
}

export function tag(indexKey: Uint8Array, place: Place, flags: number): Buffer {
  const key = hmac(indexKey, lp("tacenda/1/attributes-key"));
  const { project, store, version } = place;
  return hmac(key, lp("tacenda/1/attributes"), lp(project), lp(store), place.recordId, u64(version), u8(flags));
}

function bodyData({ project, store, recordId: id, version }: Place, keyVersion: number): Buffer {
  return Buffer.concat([lp("tacenda/1/envelope"), lp(project), lp(store), id, u64(version), u32(keyVersion)]);
}

export function sealBody(
  dataKey: Uint8Array,
  keyVersion: number,
  place: Place,
  salt: Buffer,
  nonce: Buffer,
  record: Uint8Array,
): Buffer {
  const subkey = hmac(dataKey, lp("tacenda/1/record-key"), salt);
  return Buffer.concat([
    u8(1),
    u32(keyVersion),
    salt,
    nonce,
    gcmSeal(subkey, nonce, bodyData(place, keyVersion), record),
  ]);
}

export function openBody(dataKey: Uint8Array, keyVersion: number, place: Place, body: Buffer): Buffer {
  const subkey = hmac(dataKey, lp("tacenda/1/record-key"), body.subarray(5, 21));
  return gcmOpen(subkey, body.subarray(21, 33), bodyData(place, keyVersion), body.subarray(33));
}

export interface Wrapping {
  project: string;
  store: string;
  purpose: string;
  version: number;
  masterVersion: number;
}

function wrapData({ project, store, purpose, version, masterVersion }: Wrapping): Buffer {
  return Buffer.concat([lp("tacenda/1/wrap"), lp(project), lp(store), lp(purpose), u32(version), u32(masterVersion)]);
}

export function wrap(masterKey: Uint8Array, wrapping: Wrapping, nonce: Buffer, key: Uint8Array): Buffer {
  return Buffer.concat([u8(1), u32(wrapping.masterVersion), nonce, gcmSeal(masterKey, nonce, wrapData(wrapping), key)]);
}

export function unwrap(masterKey: Uint8Array, wrapping: Wrapping, wrapped: Buffer): Buffer {
  return gcmOpen(masterKey, wrapped.subarray(5, 17), wrapData(wrapping), wrapped.subarray(17));
}

/** The eight bytes beside a key in a keyring file, base64url. */
export function keyringCheck(id: string, version: number, key: Uint8Array): string {
  return sha256(lp("tacenda/1/keyring-check"), lp(id), u32(version), key).subarray(0, 8).toString("base64url");
}
