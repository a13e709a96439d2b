/**
 * The key provider on Vault's or OpenBao's transit engine, over their HTTP API; spec/envelope.md § Transit.
 *
 * Store keys travel as base64 in JSON. The bytes that are ours are overwritten after use; the strings between, and what fetch
 * and TLS keep of them, JavaScript cannot overwrite: they are gone when the collector comes.
 */

import { randomBytes, timingSafeEqual } from "node:crypto";

import { z } from "zod";

import { asBuffer, lp } from "../bytes.js";
import { KeyProviderError, type KeyProvider, type MasterKeys, type Wrap, type WrapContext } from "../key-provider.js";
import { TransitClient } from "./transit-client.js";
import type { TransitRefusal } from "./transit-http.js";
import { TransitKey, stateOf } from "./transit-key.js";
import { TransitMasterKeys } from "./transit-master-keys.js";
import { tokenFileReader } from "./transit-token.js";
import { environmentToken, parseTransitUri } from "./transit-uri.js";
import { WRAPPED_KEY_BYTES, checkStoreKey, contextBytes, refusedWrap } from "./wrap-format.js";

/** Both products write `vault:`. Nonce, 32 bytes and tag are 60 bytes: base64 without padding, in one form only. */
const CIPHERTEXT = /^vault:v([1-9]\d{0,9}):[A-Za-z0-9+/]{80}$/;
const MAX_U32 = 0xffff_ffff;
/** How long a proof that the token may encrypt and decrypt is believed, in milliseconds. */
const PROOF = 30_000;

const ciphertextSchema = z.object({ data: z.object({ ciphertext: z.string().regex(CIPHERTEXT) }) });
const plaintextSchema = z.object({ data: z.object({ plaintext: z.base64().length(44) }) });

/**
 * Opens the key that `uri` names, without contacting its server.
 * @throws {InvalidOptionError} when it names none.
 * @throws {StartupError} when there is no token.
 */
export function openTransit(uri: string, environment: NodeJS.ProcessEnv): KeyProvider {
  const address = parseTransitUri(uri);
  if (address.tokenFile !== null) return new Transit(new TransitClient(address, tokenFileReader(address.tokenFile)));
  const token = environmentToken(environment);
  return new Transit(new TransitClient(address, () => Promise.resolve(token)));
}

class Transit implements KeyProvider {
  readonly id: string;
  readonly masterKeys: MasterKeys;
  readonly #client: TransitClient;
  readonly #key: TransitKey;
  #provedAt = -Infinity;

  constructor(client: TransitClient) {
    this.id = client.id;
    this.#client = client;
    this.#key = new TransitKey(client);
    this.masterKeys = new TransitMasterKeys(this.#key, client.id);
  }

  async currentVersion(): Promise<number> {
    return (await this.#key.describe()).latest_version;
  }

  async wrap(key: Uint8Array, context: WrapContext): Promise<Wrap> {
    checkStoreKey(key);
    await this.#key.describeFit();
    return await this.#encrypt(key, contextBytes(context));
  }

  async unwrap(wrap: Wrap, context: WrapContext): Promise<Uint8Array> {
    return await this.#decrypt(this.#checked(wrap), wrap.masterVersion, contextBytes(context));
  }

  async rewrap(wrap: Wrap, context: WrapContext): Promise<Wrap> {
    const ciphertext = this.#checked(wrap);
    await this.#key.describeFit();
    const body = { ciphertext, context: contextBytes(context).toString("base64") };
    return await this.#seal("rewrap", body, (refusal) => this.#meaning(refusal, wrap.masterVersion));
  }

  async health(): Promise<void> {
    await this.#key.describeFit({ fresh: true });
    await this.#client.token.check();
    if (performance.now() - this.#provedAt < PROOF) return;
    // The key could be read: whether the token may encrypt and decrypt shows only when it does.
    const key = randomBytes(WRAPPED_KEY_BYTES);
    const context = lp("tacenda/1/wrap-proof");
    const { wrapped, masterVersion } = await this.#encrypt(key, context);
    const opened = await this.#decrypt(asBuffer(wrapped).toString("latin1"), masterVersion, context);
    if (!timingSafeEqual(key, opened)) throw this.#client.malformed();
    this.#provedAt = performance.now();
  }

  close(): Promise<void> {
    this.#client.close();
    return Promise.resolve();
  }

  async #encrypt(key: Uint8Array, context: Buffer): Promise<Wrap> {
    const plaintext = asBuffer(key).toString("base64");
    return await this.#seal("encrypt", { plaintext, context: context.toString("base64") });
  }

  async #seal(
    action: "encrypt" | "rewrap",
    body: Record<string, string>,
    badRequest: (refusal: TransitRefusal) => Promise<KeyProviderError | undefined> = () => Promise.resolve(undefined),
  ): Promise<Wrap> {
    const { data } = await this.#client.call({
      method: "POST",
      path: `${action}/${this.#client.name}`,
      body,
      answer: ciphertextSchema,
      badRequest,
    });
    const masterVersion = versionIn(data.ciphertext);
    if (masterVersion === null) throw this.#client.malformed();
    this.#key.noteVersion(masterVersion);
    return { masterVersion, wrapped: Buffer.from(data.ciphertext, "latin1") };
  }

  async #decrypt(ciphertext: string, masterVersion: number, context: Buffer): Promise<Uint8Array> {
    const { data } = await this.#client.call({
      method: "POST",
      path: `decrypt/${this.#client.name}`,
      body: { ciphertext, context: context.toString("base64") },
      answer: plaintextSchema,
      badRequest: (refusal) => this.#meaning(refusal, masterVersion),
    });
    const key = Buffer.from(data.plaintext, "base64");
    if (key.length !== WRAPPED_KEY_BYTES) throw this.#client.malformed();
    return key;
  }

  /** Why a ciphertext was not opened; undefined when the answer is none that an engine gives to one. */
  async #meaning(refusal: TransitRefusal, masterVersion: number): Promise<KeyProviderError | undefined> {
    const refused = (what: string) =>
      new KeyProviderError("refused", `Master-key version ${masterVersion} of the key ${this.id} ${what}.`);
    if (refusal.says("disallowed by policy (too old)")) {
      // The engine does not say which of the two.
      const key = await this.#key.describe({ fresh: true }).catch(() => null);
      return key !== null && stateOf(key, masterVersion) === "destroyed"
        ? refused("was destroyed: what it wrapped cannot be opened any more")
        : refused("is retired: reinstate it with `tacenda-server keys reinstate`, if it is to open this once more");
    }
    if (refusal.says("version is too new")) {
      return refused("is not there: was the engine restored from an older backup, or is this another key of the name?");
    }
    const isWrong = refusal.says("message authentication failed", "invalid ciphertext", "no such key version");
    return isWrong ? refusedWrap(this.id) : undefined;
  }

  /** The ciphertext in a wrap. @throws {KeyProviderError} `refused` unless it is one of the version kept beside it. */
  #checked({ wrapped, masterVersion }: Wrap): string {
    const ciphertext = asBuffer(wrapped).toString("latin1");
    if (versionIn(ciphertext) !== masterVersion) throw refusedWrap(this.id);
    return ciphertext;
  }
}

/** The master-key version in a ciphertext, or null when it is no ciphertext of a store key. */
function versionIn(ciphertext: string): number | null {
  const version = Number(CIPHERTEXT.exec(ciphertext)?.[1]);
  return version <= MAX_U32 ? version : null;
}
