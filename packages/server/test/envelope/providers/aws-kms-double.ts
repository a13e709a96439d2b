/**
 * A double of AWS KMS at the level of the wire, for there is no AWS on a developer's machine. It is as faithful as its source, AWS's
 * documentation: "SDK" is the comments in node_modules/@aws-sdk/client-kms/dist-types, "Guide" the KMS Developer Guide, "API" the
 * KMS API Reference, "IAM" the IAM User Guide. Nobody has compared it with AWS itself yet: docs/key-providers/aws-kms.md says how to.
 *
 * - Protocol: AWS JSON 1.1, `X-Amz-Target: TrentService.*`; times in seconds, bytes in base64 (API, request and response syntax).
 * - Signatures (IAM, see aws-sigv4.ts): present, well-formed, over host and all x-amz-* headers, scoped to Region and service, within
 *   5 minutes, and verified by recomputation with the secret key.
 * - Errors: `__type` and message in the body. HTTP 400 for client errors, 500 for KMSInternalException and KeyUnavailableException, 503 for
 *   DependencyTimeoutException. For some the SDK's schema has 404 or 409 instead: nothing depends on it, for both sides go by names.
 * - "You must specify the same (an exact case-sensitive match) encryption context to decrypt the data" (SDK, DecryptRequest); what
 *   differs is InvalidCiphertextException: "the specified ciphertext, or additional authenticated data incorporated into the
 *   ciphertext, such as the encryption context, is corrupted, missing, or otherwise invalid" (SDK, errors). Order does not count.
 * - "When you use the KeyId parameter to specify a KMS key, KMS only uses the KMS key you specify. If the ciphertext was encrypted
 *   under a different KMS key, the Decrypt operation fails" (SDK, DecryptCommand), by IncorrectKeyException (SDK, errors).
 * - Blobs are opaque, "the blob includes metadata" (SDK, DecryptRequest): key and key material. The limits of 4,096 bytes of
 *   plaintext and 6,144 of ciphertext, and none empty, are those of API: ValidationException.
 * - States (Guide, "Key states"): Disabled is DisabledException, PendingDeletion and PendingImport are KMSInvalidStateException for
 *   everything cryptographic and for rotating; DescribeKey and ListKeyRotations succeed.
 * - Rotation: "KMS uses a background process to perform rotations. As a result, there might be a slight delay between initiating
 *   on-demand key rotation and the rotation's completion. Once the on-demand rotation is complete, KMS removes this field" (SDK,
 *   OnDemandRotationStartDate); "a maximum of 25 times per KMS key" (SDK, RotateKeyOnDemandCommand). "All previous versions of the HBK
 *   remain available for use in perpetuity to decrypt" (KMS Cryptographic Details, "Rotating key material").
 * - ListKeyRotations: "a list of completed key material rotations" unless asked for more, in pages with Truncated, NextMarker and
 *   Marker; "it might return fewer" than the limit (SDK, ListKeyRotationsRequest), and pages of two are the strictest of that.
 * - Policies: an action that is denied is AccessDeniedException; ReEncrypt needs "ReEncryptFrom …
 *   and ReEncryptTo" (SDK, ReEncryptCommand).
 *
 * Not known, and so not relied upon: the HTTP status of each client error, the order of AWS's checks among each other, its messages,
 * and what a second RotateKeyOnDemand does while one is under way (`requests` lets tests see that none is sent).
 */

import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

import { AwsError, DoubleKey, makerOf, type Context } from "./aws-kms-double-key.js";
import { signatureFault, type AwsCredentials } from "./aws-sigv4.js";

const PAGE = 2;

interface Input {
  KeyId?: string;
  Plaintext?: string;
  CiphertextBlob?: string;
  EncryptionContext?: Context;
  SourceKeyId?: string;
  SourceEncryptionContext?: Context;
  DestinationKeyId?: string;
  DestinationEncryptionContext?: Context;
  Marker?: string;
}

export class AwsKmsDouble {
  /** Of all requests that were let in, in their order. */
  readonly requests: string[] = [];
  readonly inputs: [operation: string, input: Input][] = [];
  /** Permissions that the policies withhold, for instance `kms:Decrypt`. */
  readonly denied = new Set<string>();
  /** What a request fails with, if it does. */
  failure: ((operation: string) => AwsError | undefined) | undefined;
  /** Milliseconds that an answer takes; `stalls` stops each one after its headers. */
  delay = 0;
  stalls = false;
  /** Milliseconds by which its clock differs. */
  skew = 0;
  /** Changes the text of an answer on its way. */
  tamper: ((operation: string, text: string) => string) | undefined;
  readonly #keys = new Map<string, DoubleKey>();
  readonly #credentials: AwsCredentials;
  readonly #region: string;
  #server: Server | null = null;
  #port = 0;

  constructor(credentials: AwsCredentials, region: string) {
    this.#credentials = credentials;
    this.#region = region;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Sockets that are open. */
  connections(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server?.getConnections((error, count) => (error ? reject(error) : resolve(count)));
    });
  }

  createKey(id?: string): DoubleKey {
    const key = new DoubleKey(this.#region, id);
    this.#keys.set(key.arn, key);
    return key;
  }

  /** Listens, after the first time on the same port again. */
  async start(): Promise<void> {
    const server = createServer((request, response) => void this.#serve(request, response));
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(this.#port, "127.0.0.1", resolve));
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    server?.closeAllConnections();
    if (server) await new Promise((resolve) => server.close(resolve));
  }

  async remove(): Promise<void> {
    for (const key of this.#keys.values()) key.stop();
    await this.stop();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await buffer(request).catch(() => null);
    if (body === null) return;
    let status = 200;
    let text: string;
    try {
      text = this.#answer(request, body);
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      ({ status } = error);
      text = JSON.stringify({ __type: error.name, message: error.message });
    }
    await new Promise((resolve) => setTimeout(resolve, this.delay));
    response.writeHead(status, {
      "Content-Type": "application/x-amz-json-1.1",
      "Content-Length": Buffer.byteLength(text),
      "x-amzn-RequestId": randomUUID(),
    });
    if (this.stalls) response.write(text.slice(0, 1));
    else response.end(text);
  }

  #answer(request: IncomingMessage, body: Buffer): string {
    const { method = "", url = "" } = request;
    const headers = request.headers as Record<string, string>;
    const at = { region: this.#region, service: "kms", now: Date.now() + this.skew };
    const fault = signatureFault({ method, path: url, headers, body }, this.#credentials, at);
    if (fault) throw new AwsError(...fault);
    const operation = /^TrentService\.(\w+)$/.exec(headers["x-amz-target"] ?? "")?.[1] ?? "";
    if (method !== "POST" || url !== "/" || headers["content-type"] !== "application/x-amz-json-1.1") {
      throw new AwsError("UnknownOperationException", "");
    }
    this.requests.push(operation);
    const failure = this.failure?.(operation);
    if (failure) throw failure;
    const input = JSON.parse(body.toString()) as Input;
    this.inputs.push([operation, input]);
    const text = JSON.stringify(this.#perform(operation, input));
    return this.tamper?.(operation, text) ?? text;
  }

  #perform(operation: string, input: Input): Record<string, unknown> {
    const needed = operation === "ReEncrypt" ? ["kms:ReEncryptFrom", "kms:ReEncryptTo"] : [`kms:${operation}`];
    for (const action of needed) {
      if (!this.denied.has(action)) continue;
      const message = `User: arn:aws:iam::111122223333:user/tacenda is not authorized to perform: ${action} on this resource`;
      throw new AwsError("AccessDeniedException", message);
    }
    switch (operation) {
      case "Encrypt": {
        const key = this.#key(input.KeyId);
        key.checkUsable();
        const plaintext = bytesOf("plaintext", input.Plaintext, 4_096);
        return { KeyId: key.arn, ...blobBy(key, plaintext, input.EncryptionContext), ...algorithm("Encryption") };
      }
      case "Decrypt": {
        const { key, plaintext } = this.#decrypt(input.CiphertextBlob, input.KeyId, input.EncryptionContext);
        return { KeyId: key.arn, Plaintext: plaintext.toString("base64"), ...algorithm("Encryption") };
      }
      case "ReEncrypt": {
        const from = this.#decrypt(input.CiphertextBlob, input.SourceKeyId, input.SourceEncryptionContext);
        const to = this.#key(input.DestinationKeyId);
        to.checkUsable();
        const blob = blobBy(to, from.plaintext, input.DestinationEncryptionContext);
        const algorithms = { ...algorithm("SourceEncryption"), ...algorithm("DestinationEncryption") };
        return { ...blob, SourceKeyId: from.key.arn, KeyId: to.arn, ...algorithms };
      }
      case "ListKeyRotations":
        return listRotations(this.#key(input.KeyId), input.Marker);
      case "DescribeKey":
        return { KeyMetadata: metadataOf(this.#key(input.KeyId)) };
      case "GetKeyRotationStatus": {
        const key = this.#key(input.KeyId);
        const since = key.onDemandStart;
        return {
          KeyId: key.arn,
          KeyRotationEnabled: false,
          ...(since !== null && { OnDemandRotationStartDate: since / 1_000 }),
        };
      }
      case "RotateKeyOnDemand": {
        const key = this.#key(input.KeyId);
        if (!key.hasRotations) throw new AwsError("UnsupportedOperationException", "");
        key.checkUsable();
        key.rotateOnDemand();
        return { KeyId: key.arn };
      }
      default:
        throw new AwsError("UnknownOperationException", "");
    }
  }

  #key(id: string | undefined): DoubleKey {
    const key = this.#keys.get(id ?? "");
    if (!key) throw new AwsError("NotFoundException", `Key '${id ?? ""}' does not exist`);
    return key;
  }

  #decrypt(text: string | undefined, id: string | undefined, context: Context | undefined) {
    const blob = bytesOf("ciphertextBlob", text, 6_144);
    const named = id === undefined ? null : this.#key(id);
    named?.checkUsable();
    const key = makerOf(blob, this.#keys.values());
    if (named && named !== key) {
      const message = "The key ID in the request does not identify a CMK that can perform this operation.";
      throw new AwsError("IncorrectKeyException", message);
    }
    key.checkUsable();
    return { key, plaintext: key.decrypt(blob, context ?? {}) };
  }
}

function bytesOf(name: string, text: string | undefined, max: number): Buffer {
  const bytes = Buffer.from(text ?? "", "base64");
  if (bytes.length >= 1 && bytes.length <= max) return bytes;
  throw new AwsError(
    "ValidationException",
    `1 validation error detected: Value at '${name}' failed to satisfy constraint`,
  );
}

function blobBy(key: DoubleKey, plaintext: Buffer, context: Context = {}) {
  return { CiphertextBlob: key.encrypt(plaintext, context).toString("base64") };
}

function algorithm(name: string) {
  return { [`${name}Algorithm`]: "SYMMETRIC_DEFAULT" };
}

function listRotations(key: DoubleKey, marker = "0"): Record<string, unknown> {
  if (!key.hasRotations) throw new AwsError("UnsupportedOperationException", "");
  const rotations = key.materials.filter(({ rotationType }) => rotationType !== null);
  const start = Number(marker);
  if (!Number.isInteger(start) || start > rotations.length) throw new AwsError("InvalidMarkerException", "");
  const end = start + PAGE;
  const isTruncated = end < rotations.length;
  return {
    Rotations: rotations.slice(start, end).map(({ id, rotationDate, rotationType }) => ({
      KeyId: key.arn,
      KeyMaterialId: id,
      KeyMaterialState: id === key.current.id ? "CURRENT" : "NON_CURRENT",
      RotationDate: (rotationDate ?? 0) / 1_000,
      RotationType: rotationType,
    })),
    Truncated: isTruncated,
    ...(isTruncated && { NextMarker: String(end) }),
  };
}

function metadataOf(key: DoubleKey): Record<string, unknown> {
  return {
    KeyId: key.arn.split("/").at(-1),
    Arn: key.arn,
    CreationDate: key.creationDate / 1_000,
    Enabled: key.state === "Enabled",
    KeyState: key.state,
    KeyUsage: key.usage,
    KeySpec: "SYMMETRIC_DEFAULT",
    Origin: "AWS_KMS",
  };
}
