/** The calls to AWS KMS, each for one key and bounded in time; spec/envelope.md § AWS KMS. */

import type { KMSClient, KMSClientConfig } from "@aws-sdk/client-kms";

import { KeyProviderError } from "../key-provider.js";
import { toKeyProviderError, type Operation } from "./aws-kms-errors.js";
import { isSecure, type AwsKmsKey } from "./aws-kms-uri.js";

/** The package, which is imported only when somebody chooses this provider. */
export type AwsSdk = typeof import("@aws-sdk/client-kms");

export type EncryptionContext = Record<string, string>;

export interface CallTimes {
  /** Milliseconds for connecting, and for which an answer may be silent before or amid it; of one attempt. */
  connect: number;
  silence: number;
}

const ATTEMPTS = 2;

/** Every call throws KeyProviderError, and gives its socket back when `signal` aborts. */
export class AwsKmsCalls {
  readonly #sdk: AwsSdk;
  readonly #key: AwsKmsKey;
  readonly #client: KMSClient;
  /** For what must not happen twice because an answer was lost. */
  readonly #once: KMSClient;

  constructor(sdk: AwsSdk, key: AwsKmsKey, { connect, silence }: CallTimes) {
    const config: KMSClientConfig = {
      region: key.region,
      ...(key.endpoint !== null && { endpoint: key.endpoint }),
      retryMode: "standard",
      // Idle connections are kept: that is the handler's own default.
      requestHandler: { connectionTimeout: connect, socketTimeout: silence },
    };
    this.#sdk = sdk;
    this.#key = key;
    this.#client = secured(new sdk.KMSClient({ ...config, maxAttempts: ATTEMPTS }));
    this.#once = secured(new sdk.KMSClient({ ...config, maxAttempts: 1 }));
  }

  async encrypt(plaintext: Uint8Array, context: EncryptionContext, signal: AbortSignal): Promise<Uint8Array> {
    const KeyId = this.#key.arn;
    const command = new this.#sdk.EncryptCommand({ KeyId, Plaintext: plaintext, EncryptionContext: context });
    const answer = await this.#call("Encrypt", () => this.#client.send(command, { abortSignal: signal }));
    return this.#blobOf("Encrypt", answer);
  }

  /** The plaintext is the caller's. What the SDK makes of it on the way (base64 text) nobody can overwrite. */
  async decrypt(blob: Uint8Array, context: EncryptionContext, signal: AbortSignal): Promise<Uint8Array> {
    const KeyId = this.#key.arn;
    const command = new this.#sdk.DecryptCommand({ KeyId, CiphertextBlob: blob, EncryptionContext: context });
    const answer = await this.#call("Decrypt", () => this.#client.send(command, { abortSignal: signal }));
    if (answer.KeyId !== KeyId || answer.Plaintext === undefined) {
      answer.Plaintext?.fill(0);
      throw this.#strange("Decrypt");
    }
    return answer.Plaintext;
  }

  async reEncrypt(
    blob: Uint8Array,
    from: EncryptionContext,
    to: EncryptionContext,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const command = new this.#sdk.ReEncryptCommand({
      CiphertextBlob: blob,
      SourceKeyId: this.#key.arn,
      SourceEncryptionContext: from,
      DestinationKeyId: this.#key.arn,
      DestinationEncryptionContext: to,
    });
    const answer = await this.#call("ReEncrypt", () => this.#client.send(command, { abortSignal: signal }));
    if (answer.SourceKeyId !== this.#key.arn) throw this.#strange("ReEncrypt");
    return this.#blobOf("ReEncrypt", answer);
  }

  /** When each completed rotation was, ascending; null where AWS does not tell. */
  async rotations(signal: AbortSignal): Promise<(number | null)[]> {
    const dates: (number | null)[] = [];
    let marker: string | undefined;
    do {
      const command = new this.#sdk.ListKeyRotationsCommand({ KeyId: this.#key.arn, Marker: marker });
      const page = await this.#call("ListKeyRotations", () => this.#client.send(command, { abortSignal: signal }));
      dates.push(...(page.Rotations ?? []).map(({ RotationDate }) => RotationDate?.getTime() ?? null));
      marker = page.NextMarker;
      if (page.Truncated === true && marker === undefined) throw this.#strange("ListKeyRotations");
      if (page.Truncated !== true) marker = undefined;
    } while (marker !== undefined);
    return dates.sort((a, b) => (a ?? 0) - (b ?? 0));
  }

  /** When the key was made; null where AWS does not tell. */
  async creation(signal: AbortSignal): Promise<number | null> {
    const command = new this.#sdk.DescribeKeyCommand({ KeyId: this.#key.arn });
    const answer = await this.#call("DescribeKey", () => this.#client.send(command, { abortSignal: signal }));
    return answer.KeyMetadata?.CreationDate?.getTime() ?? null;
  }

  /** Whether an on-demand rotation is under way. */
  async isRotating(signal: AbortSignal): Promise<boolean> {
    const command = new this.#sdk.GetKeyRotationStatusCommand({ KeyId: this.#key.arn });
    const answer = await this.#call("GetKeyRotationStatus", () => this.#client.send(command, { abortSignal: signal }));
    return answer.OnDemandRotationStartDate !== undefined;
  }

  /** Starts an on-demand rotation. It is asked for once only, since their number is limited over a key's life. */
  async rotate(signal: AbortSignal): Promise<void> {
    const command = new this.#sdk.RotateKeyOnDemandCommand({ KeyId: this.#key.arn });
    await this.#call("RotateKeyOnDemand", () => this.#once.send(command, { abortSignal: signal }));
  }

  close(): void {
    this.#client.destroy();
    this.#once.destroy();
  }

  async #call<Answer>(operation: Operation, work: () => Promise<Answer>): Promise<Answer> {
    try {
      return await work();
    } catch (error) {
      throw toKeyProviderError(error, operation, this.#key);
    }
  }

  #blobOf(operation: Operation, answer: { KeyId?: string | undefined; CiphertextBlob?: Uint8Array | undefined }) {
    if (answer.KeyId !== this.#key.arn || !answer.CiphertextBlob?.length) throw this.#strange(operation);
    return answer.CiphertextBlob;
  }

  #strange(operation: Operation): KeyProviderError {
    return new KeyProviderError(
      "refused",
      `What answered for AWS KMS did not use the key ${this.#key.arn}: check the endpoint. (${operation})`,
    );
  }
}

/**
 * The same client, which sends nothing in plain beyond loopback: the SDK also takes endpoints from its own variables and files,
 * and an Encrypt carries a store key.
 */
function secured(client: KMSClient): KMSClient {
  client.middlewareStack.add(
    (next) => (args) => {
      if (isSecure(args.request as { protocol: string; hostname: string })) return next(args);
      throw new KeyProviderError("refused", "AWS KMS is configured at an endpoint without TLS: name one that has it.");
    },
    { step: "finalizeRequest", name: "tacendaNeedsTls" },
  );
  return client;
}

/** What `work` gives, or what `late` makes when it takes longer than `milliseconds`; its signal aborts then. */
export async function within<Result>(
  milliseconds: number,
  late: () => Error,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const abort = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(late());
      abort.abort();
    }, milliseconds);
  });
  try {
    // Not the signal alone: looking for credentials does not heed it.
    return await Promise.race([work(abort.signal), deadline]);
  } finally {
    clearTimeout(timer);
  }
}
