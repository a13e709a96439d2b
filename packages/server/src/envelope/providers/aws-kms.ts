/** Master keys in AWS KMS: a symmetric encryption key there, named by its ARN; spec/envelope.md § AWS KMS. */

import { randomBytes } from "node:crypto";

import { asBuffer } from "../bytes.js";
import { KeyProviderError, type KeyProvider, type MasterKeys, type Wrap, type WrapContext } from "../key-provider.js";
import { AwsKmsCalls, within, type AwsSdk, type CallTimes, type EncryptionContext } from "./aws-kms-calls.js";
import { Rotations, tooLate, type RotationTimes } from "./aws-kms-rotations.js";
import { parseAwsKmsUri, type AwsKmsKey } from "./aws-kms-uri.js";
import { WRAPPED_KEY_BYTES, checkStoreKey, refusedWrap } from "./wrap-format.js";

/** In milliseconds. */
export interface AwsKmsTimes extends CallTimes, RotationTimes {
  /** For which /readyz is told of an earlier success: each look costs two requests. */
  healthKept: number;
}

const TIMES: AwsKmsTimes = {
  connect: 1_000,
  silence: 3_000,
  total: 8_000,
  kept: 60_000,
  healthKept: 30_000,
  wait: 30_000,
};

/** Of a ciphertext blob; an empty or longer one AWS would not even look at. */
const MAX_BLOB_BYTES = 6_144;

/**
 * Opens the key that `uri` names. AWS is not asked before the first call. Credentials come from the SDK's default chain, which
 * reads the process's environment and files itself.
 *
 * @throws {InvalidOptionError} when it names none.
 */
export function openAwsKms(uri: string, sdk: AwsSdk, times: Partial<AwsKmsTimes> = {}): AwsKms {
  return new AwsKms(parseAwsKmsUri(uri), sdk, { ...TIMES, ...times });
}

/**
 * Wraps store keys by Encrypt, and unwraps them by Decrypt. The master-key version in a wrap's encryption context is the one that
 * was current shortly before, and AWS may rotate in between. That is harmless: AWS itself finds the key material that a blob
 * was made with, so it opens all the same; the label is kept beside the wrap, so the context stays equal; nothing is ever
 * retired by version here. A label that is too low is found by the next rotation run, which wraps anew; one that is too high (a
 * server at AWS that lags behind) says that a wrap is newer than it is, until the next rotation.
 */
export class AwsKms implements KeyProvider {
  readonly id: string;
  readonly masterKeys: MasterKeys = {
    // The number of on-demand rotations of a key is limited, for ever. AWS has a schedule of its own, which is not.
    scheduled: false,
    instead:
      "AWS KMS keeps all key material until the whole key is deleted: move to another key with `tacenda-server keys migrate`, " +
      "then schedule the deletion of the old one at AWS.",
    versions: () => this.#noting(() => this.#rotations.versions()),
    rotate: () => this.#noting(() => this.#rotations.rotate()),
  };
  readonly #arn: string;
  readonly #calls: AwsKmsCalls;
  readonly #rotations: Rotations;
  readonly #times: AwsKmsTimes;
  #healthyUntil = -Infinity;
  #probing: Promise<void> | null = null;

  constructor({ id, arn, region, endpoint }: AwsKmsKey, sdk: AwsSdk, times: AwsKmsTimes) {
    this.id = id;
    this.#arn = arn;
    this.#times = times;
    this.#calls = new AwsKmsCalls(sdk, { id, arn, region, endpoint }, times);
    this.#rotations = new Rotations(this.#calls, arn, times);
  }

  currentVersion(): Promise<number> {
    return this.#noting(() => this.#rotations.current());
  }

  async wrap(key: Uint8Array, context: WrapContext): Promise<Wrap> {
    checkStoreKey(key);
    return this.#within(async (signal) => {
      const masterVersion = await this.#rotations.current();
      const wrapped = await this.#calls.encrypt(key, encryptionContext(context, masterVersion), signal);
      return { masterVersion, wrapped };
    });
  }

  async unwrap({ wrapped, masterVersion }: Wrap, context: WrapContext): Promise<Uint8Array> {
    this.#checkBlob(wrapped);
    const bound = encryptionContext(context, masterVersion);
    const key = await this.#within((signal) => this.#calls.decrypt(wrapped, bound, signal));
    if (key.length !== WRAPPED_KEY_BYTES) {
      key.fill(0);
      throw refusedWrap(this.id);
    }
    return key;
  }

  async rewrap({ wrapped, masterVersion: before }: Wrap, context: WrapContext): Promise<Wrap> {
    this.#checkBlob(wrapped);
    return this.#within(async (signal) => {
      const masterVersion = await this.#rotations.current();
      const from = encryptionContext(context, before);
      const to = encryptionContext(context, masterVersion);
      return { masterVersion, wrapped: await this.#calls.reEncrypt(wrapped, from, to, signal) };
    });
  }

  /**
   * Encrypts and decrypts: nothing less tells that the key's state, its kind, both policies, the credentials and the network allow
   * it. A success is told again for 30 s, unless some call has failed since.
   */
  health(): Promise<void> {
    if (performance.now() < this.#healthyUntil) return Promise.resolve();
    this.#probing ??= this.#within((signal) => this.#probe(signal)).finally(() => (this.#probing = null));
    return this.#probing;
  }

  close(): Promise<void> {
    this.#calls.close();
    return Promise.resolve();
  }

  async #probe(signal: AbortSignal): Promise<void> {
    await this.#rotations.current();
    const probe = randomBytes(WRAPPED_KEY_BYTES);
    const context = { "tacenda:format": "tacenda/1/probe" };
    const opened = await this.#calls.decrypt(await this.#calls.encrypt(probe, context, signal), context, signal);
    if (!asBuffer(opened).equals(probe)) {
      throw new KeyProviderError("refused", `The AWS KMS key ${this.#arn} does not give back what it encrypted.`);
    }
    this.#healthyUntil = performance.now() + this.#times.healthKept;
  }

  #checkBlob(blob: Uint8Array): void {
    if (blob.length === 0 || blob.length > MAX_BLOB_BYTES) throw refusedWrap(this.id);
  }

  #within<Result>(work: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
    return this.#noting(() => within(this.#times.total, () => tooLate(this.#arn), work));
  }

  /** After any failure, health is looked at afresh. */
  async #noting<Result>(work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (error) {
      this.#healthyUntil = -Infinity;
      throw error;
    }
  }
}

/** What AWS binds to a wrap. It is no secret, and stands in AWS's logs in plain. */
function encryptionContext(
  { project, store, purpose, version }: WrapContext,
  masterVersion: number,
): EncryptionContext {
  return {
    "tacenda:format": "tacenda/1/wrap",
    "tacenda:project": project,
    "tacenda:store": store,
    "tacenda:purpose": purpose,
    "tacenda:key-version": String(version),
    "tacenda:master-version": String(masterVersion),
  };
}
