/** That the double of AWS KMS can refuse: each of its checks fails for what it is there for. */

import { randomBytes } from "node:crypto";

import {
  KMSClient,
  DecryptCommand,
  EncryptCommand,
  ListKeyRotationsCommand,
  ReEncryptCommand,
} from "@aws-sdk/client-kms";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import type { DoubleKey } from "./aws-kms-double-key.js";
import type { AwsKmsDouble } from "./aws-kms-double.js";
import { CREDENTIALS, REGION, removeDouble, startDouble } from "./aws-kms-world.js";
import { signatureFault } from "./aws-sigv4.js";

let kms: AwsKmsDouble;
let key: DoubleKey;
let client: KMSClient;

beforeEach(async () => {
  kms = await startDouble();
  key = kms.createKey();
  client = clientWith({});
});

afterEach(async () => {
  client.destroy();
  await removeDouble(kms);
});

function clientWith(options: { region?: string; credentials?: Partial<typeof CREDENTIALS> }): KMSClient {
  return new KMSClient({
    endpoint: kms.endpoint,
    region: options.region ?? REGION,
    credentials: { ...CREDENTIALS, ...options.credentials },
    maxAttempts: 1,
  });
}

/** A request that the SDK signed, not sent. */
async function signed(): Promise<{ headers: Record<string, string>; body: string }> {
  let request: { headers: Record<string, string>; body: Uint8Array } | undefined;
  client.middlewareStack.add(
    () => (args) => {
      request = args.request as typeof request;
      throw new Error("Not sent.");
    },
    { step: "finalizeRequest", priority: "low" },
  );
  const command = new EncryptCommand({ KeyId: key.arn, Plaintext: randomBytes(32) });
  await expect(client.send(command)).rejects.toThrow("Not sent.");
  if (!request) throw new Error("Nothing was signed.");
  return { headers: request.headers, body: new TextDecoder().decode(request.body) };
}

async function send(
  headers: Record<string, string>,
  body: string,
): Promise<[status: number, type: string | undefined]> {
  const response = await fetch(kms.endpoint, { method: "POST", headers, body });
  return [response.status, ((await response.json()) as { __type?: string }).__type];
}

describe("signatures", () => {
  test("AWS's own example verifies, and nothing beside it", () => {
    // "get-vanilla" of the Signature Version 4 test suite.
    const credentials = { accessKeyId: "AKIDEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" };
    const signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    const headers = {
      host: "example.amazonaws.com",
      "x-amz-date": "20150830T123600Z",
      authorization:
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, " +
        `SignedHeaders=host;x-amz-date, Signature=${signature}`,
    };
    const request = { method: "GET", path: "/", headers, body: Buffer.alloc(0) };
    const at = { region: "us-east-1", service: "service", now: Date.UTC(2015, 7, 30, 12, 36) };
    expect(signatureFault(request, credentials, at)).toBeNull();
    expect(signatureFault({ ...request, method: "POST" }, credentials, at)?.[0]).toBe("InvalidSignatureException");
    expect(signatureFault(request, { ...credentials, secretAccessKey: "x" }, at)?.[0]).toBe(
      "InvalidSignatureException",
    );
  });

  test("a request of the SDK is taken as it is, and refused when anything in it changed", async () => {
    const { headers, body } = await signed();
    expect(await send(headers, body)).toEqual([200, undefined]);
    const { authorization = "" } = headers;
    const flipped = authorization.replace(/.$/, (digit) => (digit === "0" ? "1" : "0"));
    expect(await send({ ...headers, authorization: flipped }, body)).toEqual([400, "InvalidSignatureException"]);
    expect(
      await send(
        headers,
        body.replace(/(?<="Plaintext":")./, (digit) => (digit === "A" ? "B" : "A")),
      ),
    ).toEqual([400, "InvalidSignatureException"]);
    const other = { ...headers, "x-amz-target": "TrentService.Decrypt" };
    expect(await send(other, body)).toEqual([400, "InvalidSignatureException"]);
    expect(await send({ ...headers, "x-amz-more": "1" }, body)).toEqual([400, "IncompleteSignatureException"]);
    const unsigned = Object.fromEntries(Object.entries(headers).filter(([name]) => name !== "authorization"));
    expect(await send(unsigned, body)).toEqual([400, "MissingAuthenticationTokenException"]);
    expect(await send({ ...headers, authorization: "AWS4-HMAC-SHA256 nothing" }, body)).toEqual([
      400,
      "IncompleteSignatureException",
    ]);
    kms.skew = 5 * 60_000 + 2_000;
    expect(await send(headers, body)).toEqual([400, "InvalidSignatureException"]);
  });

  test.each([
    ["another secret key", { credentials: { secretAccessKey: "another" } }, "InvalidSignatureException"],
    ["another access key", { credentials: { accessKeyId: "AKIDANOTHER" } }, "UnrecognizedClientException"],
    ["another session token", { credentials: { sessionToken: "another" } }, "UnrecognizedClientException"],
    ["another Region", { region: "us-east-2" }, "InvalidSignatureException"],
  ])("%s is refused", async (_what, options, name) => {
    client = clientWith(options);
    await expect(client.send(new ListKeyRotationsCommand({ KeyId: key.arn }))).rejects.toMatchObject({ name });
    expect(kms.requests).toEqual([]);
  });
});

describe("blobs", () => {
  const EncryptionContext = { a: "1", b: "2" };
  let CiphertextBlob: Uint8Array;

  beforeEach(async () => {
    const command = new EncryptCommand({ KeyId: key.arn, Plaintext: randomBytes(32), EncryptionContext });
    CiphertextBlob = (await client.send(command)).CiphertextBlob ?? new Uint8Array();
  });

  test("open for an equal context in any order, with the key named or not", async () => {
    await client.send(new DecryptCommand({ CiphertextBlob, EncryptionContext: { b: "2", a: "1" } }));
    await client.send(new DecryptCommand({ KeyId: key.arn, CiphertextBlob, EncryptionContext }));
  });

  test.each([{}, { a: "1" }, { a: "1", b: "2", c: "3" }, { a: "1", b: "3" }, { A: "1", b: "2" }, { a: "2", b: "1" }])(
    "do not open for the context %o",
    async (other) => {
      const work = client.send(
        new DecryptCommand({ CiphertextBlob, EncryptionContext: other as Record<string, string> }),
      );
      await expect(work).rejects.toMatchObject({
        name: "InvalidCiphertextException",
        $metadata: { httpStatusCode: 400 },
      });
    },
  );

  test("do not open under another key, nor when they are empty, too long or altered", async () => {
    const KeyId = kms.createKey().arn;
    const decrypt = (options: object) =>
      client.send(new DecryptCommand({ CiphertextBlob, EncryptionContext, ...options }));
    await expect(decrypt({ KeyId })).rejects.toMatchObject({ name: "IncorrectKeyException" });
    const reEncrypt = new ReEncryptCommand({ CiphertextBlob, SourceKeyId: KeyId, DestinationKeyId: KeyId });
    await expect(client.send(reEncrypt)).rejects.toMatchObject({ name: "IncorrectKeyException" });
    for (const length of [0, 6_145]) {
      const name = "ValidationException";
      await expect(decrypt({ CiphertextBlob: new Uint8Array(length) })).rejects.toMatchObject({ name });
    }
    for (let place = 0; place < CiphertextBlob.length; place++) {
      const altered = Uint8Array.from(CiphertextBlob);
      altered[place] = (altered[place] ?? 0) ^ 1;
      await expect(decrypt({ CiphertextBlob: altered })).rejects.toMatchObject({ name: "InvalidCiphertextException" });
    }
  });

  test("open after rotations of their key, and not under another key that has as many", async () => {
    key.rotateAutomatically();
    await client.send(new DecryptCommand({ CiphertextBlob, EncryptionContext }));
    await expect(client.send(new ListKeyRotationsCommand({ KeyId: key.arn, Marker: "9" }))).rejects.toMatchObject({
      name: "InvalidMarkerException",
    });
  });
});
