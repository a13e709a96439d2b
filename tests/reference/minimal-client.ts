/**
 * A complete client written from spec/record.md and spec/http.md alone: node:crypto and fetch, nothing of this project. It
 * shows that a stranger can write one. It keeps no marks and never repeats a request; use the SDK for everything else.
 */

import { createCipheriv, createDecipheriv, createHash, createHmac } from "node:crypto";
import { pbkdf2Sync, randomBytes, timingSafeEqual } from "node:crypto";

const [HEAD, TAG] = [75, 16];
const [VALUE, MOVED] = [0, 2];
const [ATTEMPTS, CLOCK_TOLERANCE] = [5, 300_000];

const u8 = (number: number) => Buffer.of(number);
const u32 = (number: number) => Buffer.from([number >>> 24, number >>> 16, number >>> 8, number]);
const u64 = (number: number) => Buffer.concat([u32(Math.floor(number / 2 ** 32)), u32(number % 2 ** 32)]);
const join = (...parts: Uint8Array[]) => Buffer.concat(parts);
const hmac = (key: Uint8Array, data: Uint8Array) => createHmac("sha256", key).update(data).digest();

function lp(content: string | Uint8Array): Buffer {
  const encoded = Buffer.from(content);
  return join(u32(encoded.length), encoded);
}

function expand(key: Uint8Array, info: Uint8Array, length: number): Buffer {
  const blocks: Buffer[] = [];
  for (let counter = 1; counter <= Math.ceil(length / 32); counter++) {
    blocks.push(hmac(key, join(...blocks.slice(-1), info, u8(counter))));
  }
  return join(...blocks).subarray(0, length);
}

function paddedLength(length: number): number {
  if (length <= 256) return 256;
  const exponent = length.toString(2).length - 1; // floor(log2 length); likewise below
  const unit = 2 ** (exponent - exponent.toString(2).length);
  return Math.ceil(length / unit) * unit;
}

export interface MinimalClientOptions {
  url: string;
  token: string;
  project: string;
  store: string;
  /** Text that spec/record.md § Secrets accepts; this client does not judge it. */
  secret: string;
}

type Keys = Record<"keyHash" | "valueKey", Buffer>;
type Sealing = Record<"encKey" | "nonce" | "context", Buffer>;
interface Current {
  version: number;
  head: string;
}

export class MinimalClient {
  readonly #options: MinimalClientOptions;

  constructor(options: MinimalClientOptions) {
    this.#options = options;
  }

  /** Writes `text` as the next version of `key` and gives that version. `expiresAt`: ms since the epoch, 0 for never. */
  async set(key: string, text: string, { expiresAt = 0 } = {}): Promise<number> {
    if (!text.isWellFormed()) throw new Error("the value is not well-formed text");
    const keys = this.#derive(key);
    let current = 0;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const version = current + 1;
      const condition: Record<string, string> =
        current === 0 ? { "if-none-match": "*" } : { "if-match": `"${current}"` };
      const body = this.#seal(keys, version, expiresAt, join(u8(0), u64(Date.now()), lp(""), lp(text)));
      const headers = { "content-type": "application/octet-stream", ...condition };
      const response = await this.#fetch(keys, { method: "PUT", headers, body });
      if (response.status !== 412) {
        await response.arrayBuffer();
        if (response.status === 200 || response.status === 201) return version;
        throw new Error(`the write was answered ${response.status}`);
      }
      current = await this.#verifiedCurrent(keys, response);
    }
    throw new Error("others kept writing the same key; try again");
  }

  /** The text of `key`'s current version; null if it is absent, deleted or expired. */
  async get(key: string): Promise<string | null> {
    const keys = this.#derive(key);
    const response = await this.#fetch(keys, { method: "GET" });
    if (response.status === 200) {
      const version = Number(/^"([1-9][0-9]{0,15})"$/.exec(response.headers.get("etag") ?? "")?.[1]);
      return this.#open(keys, version, Buffer.from(await response.arrayBuffer()));
    }
    const { code, current } = await errorOf(response);
    if (response.status === 404 && code === "record_not_found") return null;
    if (response.status === 410 && code === "record_expired" && current) {
      const { expiresAt } = this.#verifyHead(keys, current.version, Buffer.from(current.head, "base64url"));
      if (expiresAt > 0 && expiresAt < Date.now() + CLOCK_TOLERANCE) return null;
    }
    throw new Error(`the read was answered ${response.status}`);
  }

  #derive(key: string): Keys {
    const encoded = Buffer.from(key);
    if (!key.isWellFormed() || encoded.length < 1 || encoded.length > 1024) throw new Error("the key is not valid");
    const { project, store, secret } = this.#options;
    const iterations = 100_000;
    const secretHash = createHash("sha256")
      .update(join(lp("tacenda/1/secret"), lp(secret)))
      .digest();
    const salt = join(lp("tacenda/1/derive"), u8(0), u32(iterations), lp(project), lp(store), lp(encoded));
    const root = pbkdf2Sync(secretHash, salt, iterations, 32, "sha256");
    const derived = (label: string) => expand(root, Buffer.from(label), 32);
    return { keyHash: derived("tacenda/1/key-hash"), valueKey: derived("tacenda/1/value-key") };
  }

  #sealingKeys({ keyHash, valueKey }: Keys, version: number, state: number, expiresAt: number, salt: Uint8Array) {
    const place = join(lp(this.#options.project), lp(this.#options.store), keyHash);
    const context = join(lp("tacenda/1/seal"), u8(1), u8(1), place, u64(version), u8(state), u64(expiresAt));
    const okm = expand(hmac(salt, valueKey), context, 76);
    return { context, encKey: okm.subarray(0, 32), nonce: okm.subarray(32, 44), commitment: okm.subarray(44) };
  }

  #seal(keys: Keys, version: number, expiresAt: number, fields: Uint8Array): Buffer<ArrayBuffer> {
    const salt = randomBytes(32);
    const { context, encKey, nonce, commitment } = this.#sealingKeys(keys, version, VALUE, expiresAt, salt);
    const payload = join(fields, Buffer.alloc(paddedLength(fields.length) - fields.length));
    const cipher = createCipheriv("chacha20-poly1305", encKey, nonce, { authTagLength: TAG });
    cipher.setAAD(context, { plaintextLength: payload.length });
    const head = join(u8(1), u8(1), u8(VALUE), u64(expiresAt), salt, commitment);
    return join(head, cipher.update(payload), cipher.final(), cipher.getAuthTag());
  }

  #verifyHead(keys: Keys, version: number, head: Buffer) {
    if (head.length !== HEAD || head[0] !== 1 || head[1] !== 1) throw new Error("the record's format is not supported");
    const state = head.readUInt8(2);
    const expiresAt = head.readUInt32BE(3) * 2 ** 32 + head.readUInt32BE(7);
    const sealing = this.#sealingKeys(keys, version, state, expiresAt, head.subarray(11, 43));
    const genuine = timingSafeEqual(sealing.commitment, head.subarray(43));
    const known = [version, expiresAt].every(Number.isSafeInteger) && version >= 1 && state <= MOVED;
    if (!genuine || !known) throw new Error("the record does not open");
    return { state, expiresAt, sealing };
  }

  #open(keys: Keys, version: number, record: Buffer): string | null {
    const { state, expiresAt, sealing } = this.#verifyHead(keys, version, record.subarray(0, HEAD));
    const { kind, value } = decrypt(sealing, record, state);
    if (state === MOVED) throw new Error("the secret was changed; use the new one");
    if (state !== VALUE || (expiresAt > 0 && expiresAt <= Date.now())) return null;
    if (kind !== 0) throw new Error("the value is bytes, not text");
    return value.toString();
  }

  /** The current version that a 412 proves, to write the next one on; 0 if the key never existed. */
  async #verifiedCurrent(keys: Keys, response: Response): Promise<number> {
    const { current } = await errorOf(response);
    if (current === null) return 0;
    if (current === undefined) throw new Error("the conflict does not tell the current version");
    const { state } = this.#verifyHead(keys, current.version, Buffer.from(current.head, "base64url"));
    if (state === MOVED) throw new Error("the secret was changed; use the new one");
    return current.version;
  }

  #fetch({ keyHash }: Keys, init: { method: string; headers?: Record<string, string>; body?: Buffer<ArrayBuffer> }) {
    const { url, token, project, store } = this.#options;
    const path = `/v1/projects/${project}/stores/${store}/records/${keyHash.toString("base64url")}`;
    const safely: RequestInit = { redirect: "manual", signal: AbortSignal.timeout(30_000) };
    return fetch(url + path, { ...init, ...safely, headers: { ...init.headers, authorization: `Bearer ${token}` } });
  }
}

/** Decrypts and parses; every failure is one and the same. */
function decrypt({ encKey, nonce, context }: Sealing, record: Buffer, state: number) {
  try {
    const decipher = createDecipheriv("chacha20-poly1305", encKey, nonce, { authTagLength: TAG });
    decipher.setAAD(context, { plaintextLength: record.length - HEAD - TAG });
    decipher.setAuthTag(record.subarray(-TAG));
    const payload = join(decipher.update(record.subarray(HEAD, -TAG)), decipher.final());
    const kind = payload.readUInt8(0);
    const valueStart = 17 + payload.readUInt32BE(9);
    const valueEnd = valueStart + payload.readUInt32BE(valueStart - 4);
    const [metadata, value] = [payload.subarray(13, valueStart - 4), payload.subarray(valueStart, valueEnd)];
    const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    const parsed: unknown = JSON.parse(strict.decode(metadata) || "{}");
    if (kind === 0) strict.decode(value);
    const rules = [
      payload.length === paddedLength(valueEnd) && payload.subarray(valueEnd).every((byte) => byte === 0),
      kind <= 1 && payload.readBigUInt64BE(1) < 2n ** 53n && metadata.length <= 8192 && value.length <= 1_048_576,
      typeof parsed === "object" && parsed !== null && !Array.isArray(parsed),
      state === VALUE || (kind === 0 && metadata.length + value.length === 0),
    ];
    if (rules.includes(false)) throw new Error("a rule is broken");
    return { kind, value };
  } catch {
    throw new Error("the record does not open");
  }
}

async function errorOf(response: Response) {
  return ((await response.json()) as { error: { code?: string; current?: Current | null } }).error;
}
