/**
 * Slow, readable reference of spec/record.md and spec/envelope.md with the names the specification uses. It imports
 * node:crypto and nothing else, so that it can be checked against the text alone; it is not for production.
 */

import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  pbkdf2Sync,
  timingSafeEqual,
  type BinaryLike,
} from "node:crypto";

/** Every way in which the specification says that something is refused; the codes the vectors expect. */
export type RefusalCode =
  "invalid_key" | "weak_secret" | "unsupported_format" | "record_open" | "record_damaged" | "wrap_refused";

/** What the specification refuses. */
export class Refusal extends Error {
  readonly code: RefusalCode;
  constructor(code: RefusalCode) {
    super(code);
    this.code = code;
  }
}

// --- spec/record.md § Notation and § Limits ---

const MAX_INTEGER = Number.MAX_SAFE_INTEGER;
const MAX_KEY = 1_024;
const MAX_METADATA = 8_192;
const MAX_VALUE = 1_048_576;
const HEAD = 75;
const TAG = 16;
const MIN_RECORD = HEAD + 256 + TAG;
const MAX_RECORD = HEAD + paddedLength(1 + 8 + 4 + MAX_METADATA + 4 + MAX_VALUE) + TAG;

export function bytes(...parts: Uint8Array[]): Buffer {
  return Buffer.concat(parts);
}

export function u8(number: number): Buffer {
  return Buffer.of(number);
}

export function u32(number: number): Buffer {
  const encoded = Buffer.alloc(4);
  encoded.writeUInt32BE(number);
  return encoded;
}

export function u64(number: number | bigint): Buffer {
  const encoded = Buffer.alloc(8);
  encoded.writeBigUInt64BE(BigInt(number));
  return encoded;
}

/** Length-prefixed bytes; text stands for its UTF-8. */
export function lp(content: string | Uint8Array): Buffer {
  const encoded = Buffer.from(content);
  return bytes(u32(encoded.length), encoded);
}

export function sha256(input: BinaryLike): Buffer {
  return createHash("sha256").update(input).digest();
}

function hmac(key: Uint8Array, input: Uint8Array): Buffer {
  return createHmac("sha256", key).update(input).digest();
}

/** HKDF-Expand of RFC 5869 with SHA-256. */
function hkdfExpand(key: Uint8Array, info: string | Uint8Array, length: number): Buffer {
  const blocks: Buffer[] = [];
  for (let counter = 1; counter <= Math.ceil(length / 32); counter++) {
    blocks.push(hmac(key, bytes(blocks.at(-1) ?? Buffer.alloc(0), Buffer.from(info), u8(counter))));
  }
  return bytes(...blocks).subarray(0, length);
}

// --- spec/record.md § Secrets and § Generated secrets; spec/http.md § Tokens ---

const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/** The six characters that end a token or a generated secret whose beginning is `body`. */
export function checksum(body: string): string {
  let rest = sha256(body).readUInt32BE();
  let digits = "";
  for (let place = 0; place < 6; place++) {
    digits = BASE62.charAt(rest % 62) + digits;
    rest = Math.floor(rest / 62);
  }
  return digits;
}

function endsInItsChecksum(text: string): boolean {
  return text.slice(-6) === checksum(text.slice(0, -6));
}

export function isGeneratedSecret(text: string): boolean {
  return /^tcs_[0-9A-Za-z]{49}$/.test(text) && endsInItsChecksum(text);
}

export function isToken(text: string): boolean {
  return /^tct_[0-9A-Za-z]{61}$/.test(text) && endsInItsChecksum(text);
}

type Secret = string | Uint8Array;

function checkSecret(secret: Secret, iterations: number, allowWeakSecret: boolean): Buffer {
  if (!Number.isSafeInteger(iterations) || iterations < 100_000 || iterations > 10_000_000) {
    throw new Refusal("weak_secret");
  }
  if (secret.length === 0 || (typeof secret === "string" && !secret.isWellFormed())) throw new Refusal("weak_secret");
  if (typeof secret === "string" && secret.startsWith("tcs_") && !isGeneratedSecret(secret)) {
    throw new Refusal("weak_secret");
  }
  if (typeof secret === "string" && secret.startsWith("tct_")) throw new Refusal("weak_secret");
  const units = Array.from<string | number>(secret); // code points of text, byte values of bytes
  const strong = units.length >= 32 && new Set(units).size >= 8;
  if (!strong && !(allowWeakSecret && iterations >= 600_000)) throw new Refusal("weak_secret");
  return Buffer.from(secret);
}

function checkKey(key: string): Buffer {
  const encoded = Buffer.from(key);
  if (!key.isWellFormed() || encoded.length < 1 || encoded.length > MAX_KEY) throw new Refusal("invalid_key");
  return encoded;
}

// --- spec/record.md § Deriving ---

export interface DeriveInput {
  project: string;
  store: string;
  secret: Secret;
  key: string;
  iterations: number;
  stretch: "key" | "store";
  allowWeakSecret?: boolean;
}

/** All that deriving gives, 32 bytes each. */
export interface Derived {
  secretHash: Buffer;
  storeRoot: Buffer;
  root: Buffer;
  keyHash: Buffer;
  valueKey: Buffer;
  secretCheck: Buffer;
}

export function derive(input: DeriveInput): Derived {
  const secret = checkSecret(input.secret, input.iterations, input.allowWeakSecret ?? false);
  const key = checkKey(input.key);
  const secretHash = sha256(bytes(lp("tacenda/1/secret"), lp(secret)));
  const stretched = (purpose: number, derivedKey: Uint8Array) => {
    const place = bytes(lp(input.project), lp(input.store), lp(derivedKey));
    const salt = bytes(lp("tacenda/1/derive"), u8(purpose), u32(input.iterations), place);
    return pbkdf2Sync(secretHash, salt, input.iterations, 32, "sha256");
  };
  const storeRoot = stretched(1, Buffer.alloc(0));
  const root =
    input.stretch === "key" ? stretched(0, key) : hmac(storeRoot, bytes(lp("tacenda/1/derive"), u8(2), lp(key)));
  return {
    secretHash,
    storeRoot,
    root,
    keyHash: hkdfExpand(root, "tacenda/1/key-hash", 32),
    valueKey: hkdfExpand(root, "tacenda/1/value-key", 32),
    secretCheck: hkdfExpand(storeRoot, `tacenda/1/secret-check/${input.stretch}`, 32),
  };
}

// --- spec/record.md § Sealing, § Padding and § Head ---

/** Where a record belongs, and the key that seals it. */
export interface Place {
  project: string;
  store: string;
  keyHash: Uint8Array;
  valueKey: Uint8Array;
}

/** What is sealed. */
export interface Content {
  state: number;
  expiresAt: number;
  kind: number;
  sealedAt: number;
  metadata: string;
  value: Uint8Array;
}

export function paddedLength(length: number): number {
  if (length <= 256) return 256;
  const E = 31 - Math.clz32(length);
  const S = 31 - Math.clz32(E) + 1;
  const unit = 2 ** (E - S);
  return Math.ceil(length / unit) * unit;
}

export function padded(payload: Uint8Array): Buffer {
  return bytes(payload, Buffer.alloc(paddedLength(payload.length) - payload.length));
}

function sealingKeys(place: Place, version: number, state: number, expiresAt: number | bigint, salt: Uint8Array) {
  const where = bytes(lp(place.project), lp(place.store), place.keyHash);
  const context = bytes(lp("tacenda/1/seal"), u8(1), u8(1), where, u64(version), u8(state), u64(expiresAt));
  const okm = hkdfExpand(hmac(salt, place.valueKey), context, 76);
  return {
    context,
    encKey: okm.subarray(0, 32),
    nonce: okm.subarray(32, 44),
    commitment: okm.subarray(44, 76),
  };
}

/** Seals any bytes as a payload, well-formed or not: `seal` without the rules, for vectors of what must not open. */
export function sealPayload(
  place: Place,
  version: number,
  head: { state: number; expiresAt: number | bigint; salt: Uint8Array },
  payload: Uint8Array,
): Buffer {
  const { context, encKey, nonce, commitment } = sealingKeys(place, version, head.state, head.expiresAt, head.salt);
  const cipher = createCipheriv("chacha20-poly1305", encKey, nonce, { authTagLength: TAG });
  cipher.setAAD(context, { plaintextLength: payload.length });
  const plainHead = bytes(u8(1), u8(1), u8(head.state), u64(head.expiresAt), head.salt, commitment);
  return bytes(plainHead, cipher.update(payload), cipher.final(), cipher.getAuthTag());
}

export function seal(place: Place, version: number, content: Content, salt: Uint8Array): Buffer {
  const { kind, sealedAt, metadata, value } = content;
  const payload = bytes(u8(kind), u64(sealedAt), lp(metadata), lp(value));
  return sealPayload(place, version, { state: content.state, expiresAt: content.expiresAt, salt }, padded(payload));
}

// --- spec/record.md § Opening ---

/** Checks that a head, or the head of a record, was sealed for this place and version. */
export function verifyHead(place: Place, version: number, head: Uint8Array) {
  if (head.length !== HEAD || head[0] !== 1 || head[1] !== 1) throw new Refusal("unsupported_format");
  const fields = Buffer.from(head);
  const state = fields.readUInt8(2);
  const expiresAt = fields.readBigUInt64BE(3);
  const keys = sealingKeys(place, version, state, expiresAt, fields.subarray(11, 43));
  if (!timingSafeEqual(keys.commitment, fields.subarray(43, HEAD))) throw new Refusal("record_open");
  if (state > 2 || expiresAt > BigInt(MAX_INTEGER)) throw new Refusal("record_open");
  return { state, expiresAt: Number(expiresAt), commitment: keys.commitment, keys };
}

export function open(place: Place, version: number, record: Uint8Array): Content {
  if (record.length < MIN_RECORD || record.length > MAX_RECORD) throw new Refusal("unsupported_format");
  const { state, expiresAt, keys } = verifyHead(place, version, record.subarray(0, HEAD));
  const decipher = createDecipheriv("chacha20-poly1305", keys.encKey, keys.nonce, { authTagLength: TAG });
  decipher.setAAD(keys.context, { plaintextLength: record.length - HEAD - TAG });
  decipher.setAuthTag(record.subarray(-TAG));
  try {
    const payload = bytes(decipher.update(record.subarray(HEAD, -TAG)), decipher.final());
    return { state, expiresAt, ...parsePayload(payload, state) };
  } catch {
    throw new Refusal("record_open"); // whatever went wrong: one failure, one message
  }
}

function parsePayload(payload: Buffer, state: number): Omit<Content, "state" | "expiresAt"> {
  const must = (condition: boolean) => {
    if (!condition) throw new Refusal("record_open");
  };
  const kind = payload.readUInt8(0);
  const sealedAt = payload.readBigUInt64BE(1);
  const metadataEnd = 13 + payload.readUInt32BE(9);
  must(metadataEnd - 13 <= MAX_METADATA);
  const valueEnd = metadataEnd + 4 + payload.readUInt32BE(metadataEnd);
  must(valueEnd - metadataEnd - 4 <= MAX_VALUE && payload.length === paddedLength(valueEnd));
  must(payload.subarray(valueEnd).every((byte) => byte === 0));
  must(kind <= 1 && sealedAt <= BigInt(MAX_INTEGER));
  const value = payload.subarray(metadataEnd + 4, valueEnd);
  const metadata = text(payload.subarray(13, metadataEnd));
  if (metadata !== "") {
    const parsed: unknown = JSON.parse(metadata);
    must(typeof parsed === "object" && parsed !== null && !Array.isArray(parsed));
  }
  if (kind === 0) text(value);
  if (state !== 0) must(kind === 0 && metadata === "" && value.length === 0);
  return { kind, sealedAt: Number(sealedAt), metadata, value };
}

/** Strict UTF-8; a leading U+FEFF is part of the text. */
function text(encoded: Uint8Array): string {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(encoded);
}

// --- spec/envelope.md § Records and § Subkeys ---

/** Where a stored record belongs, and the data key that encrypts it. */
export interface StoredPlace {
  project: string;
  store: string;
  recordId: Uint8Array;
  version: number;
  dataKey: Uint8Array;
  dataKeyVersion: number;
}

export function recordId(indexKey: Uint8Array, keyHash: Uint8Array): Buffer {
  return hmac(indexKey, bytes(lp("tacenda/1/record-id"), keyHash));
}

export function subkey(dataKey: Uint8Array, salt: Uint8Array): Buffer {
  return hmac(dataKey, bytes(lp("tacenda/1/record-key"), salt));
}

function storedContext(place: StoredPlace): Buffer {
  const where = bytes(lp(place.project), lp(place.store), place.recordId);
  return bytes(lp("tacenda/1/envelope"), where, u64(place.version), u32(place.dataKeyVersion));
}

export function encloseRecord(place: StoredPlace, record: Uint8Array, salt: Uint8Array, nonce: Uint8Array): Buffer {
  const key = subkey(place.dataKey, salt);
  const encrypted = encryptGcm(key, nonce, storedContext(place), record);
  return bytes(u8(1), u32(place.dataKeyVersion), salt, nonce, encrypted);
}

export function discloseRecord(place: StoredPlace, stored: Buffer): Buffer {
  if (stored.length < 33 + TAG || stored[0] !== 1 || stored.readUInt32BE(1) !== place.dataKeyVersion) {
    throw new Refusal("record_damaged");
  }
  const key = subkey(place.dataKey, stored.subarray(5, 21));
  const record = decryptGcm(key, stored.subarray(21, 33), storedContext(place), stored.subarray(33));
  if (record === null) throw new Refusal("record_damaged");
  return record;
}

// --- spec/envelope.md § Attributes ---

export interface Attributes {
  project: string;
  store: string;
  recordId: Uint8Array;
  version: number;
  protected: boolean;
  active: boolean;
}

export function attributeTag(indexKey: Uint8Array, record: Attributes): Buffer {
  const tagKey = hmac(indexKey, lp("tacenda/1/attributes-key"));
  const where = bytes(lp(record.project), lp(record.store), record.recordId);
  const flags = (record.protected ? 1 : 0) | (record.active ? 2 : 0);
  return hmac(tagKey, bytes(lp("tacenda/1/attributes"), where, u64(record.version), u8(flags)));
}

// --- spec/envelope.md § Wrapping and § Keyring ---

export interface WrapPlace {
  project: string;
  store: string;
  purpose: "index" | "data";
  keyVersion: number;
}

function wrapContext(place: WrapPlace, masterVersion: number): Buffer {
  const where = bytes(lp(place.project), lp(place.store), lp(place.purpose));
  return bytes(lp("tacenda/1/wrap"), where, u32(place.keyVersion), u32(masterVersion));
}

export function wrapKey(
  masterKey: Uint8Array,
  masterVersion: number,
  place: WrapPlace,
  storeKey: Uint8Array,
  nonce: Uint8Array,
): Buffer {
  const encrypted = encryptGcm(masterKey, nonce, wrapContext(place, masterVersion), storeKey);
  return bytes(u8(1), u32(masterVersion), nonce, encrypted);
}

export function unwrapKey(masterKey: Uint8Array, masterVersion: number, place: WrapPlace, wrap: Buffer): Buffer {
  if (wrap.length !== 65 || wrap[0] !== 1 || wrap.readUInt32BE(1) !== masterVersion) throw new Refusal("wrap_refused");
  const storeKey = decryptGcm(masterKey, wrap.subarray(5, 17), wrapContext(place, masterVersion), wrap.subarray(17));
  if (storeKey === null) throw new Refusal("wrap_refused");
  return storeKey;
}

export function keyringCheck(keyringId: string, version: number, key: Uint8Array): Buffer {
  return sha256(bytes(lp("tacenda/1/keyring-check"), lp(keyringId), u32(version), key)).subarray(0, 8);
}

/** What the file of a keyring says of a key beside the key itself. */
export interface KeyringLine {
  version: number;
  createdAt: string;
  state: string;
}

export function keyringFileCheck(keyringId: string, current: number, keys: readonly KeyringLine[]): Buffer {
  const lines = keys.flatMap(({ version, createdAt, state }) => [u32(version), lp(createdAt), lp(state)]);
  return sha256(bytes(lp("tacenda/1/keyring-file-check"), lp(keyringId), u32(current), ...lines)).subarray(0, 8);
}

function encryptGcm(key: Uint8Array, nonce: Uint8Array, additionalData: Uint8Array, plain: Uint8Array): Buffer {
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(additionalData);
  return bytes(cipher.update(plain), cipher.final(), cipher.getAuthTag());
}

function decryptGcm(key: Uint8Array, nonce: Uint8Array, additionalData: Uint8Array, encrypted: Uint8Array) {
  const decipher = createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: TAG });
  decipher.setAAD(additionalData);
  decipher.setAuthTag(encrypted.subarray(-TAG));
  try {
    return bytes(decipher.update(encrypted.subarray(0, -TAG)), decipher.final());
  } catch {
    return null;
  }
}

/** What is kept of a client's secret check. */
export function blindedCheck(indexKey: Uint8Array, project: string, store: string, check: Uint8Array): Buffer {
  const checkKey = hmac(indexKey, lp("tacenda/1/secret-check-key"));
  return hmac(checkKey, bytes(lp("tacenda/1/secret-check"), lp(project), lp(store), check));
}
