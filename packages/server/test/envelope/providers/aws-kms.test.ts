/** AWS KMS as a key provider, beyond the contract: names, wraps, failures; spec/envelope.md § AWS KMS. */

import { randomBytes } from "node:crypto";
import { inspect } from "node:util";

import * as sdk from "@aws-sdk/client-kms";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import type { WrapContext } from "../../../src/envelope/key-provider.js";
import { openKeyProvider } from "../../../src/envelope/open-key-provider.js";
import { openAwsKms, type AwsKms } from "../../../src/envelope/providers/aws-kms.js";
import { AwsError, type DoubleKey } from "./aws-kms-double-key.js";
import type { AwsKmsDouble } from "./aws-kms-double.js";
import { failure, openAt, removeDouble, startDouble, uriOf } from "./aws-kms-world.js";

const context: WrapContext = { project: "default", store: "user-tokens", purpose: "data", version: 1 };

let kms: AwsKmsDouble;
let key: DoubleKey;

beforeEach(async () => {
  kms = await startDouble();
  key = kms.createKey();
});

afterEach(() => removeDouble(kms));

const open = () => openAt(uriOf(kms, key));

const count = (operation: string) => kms.requests.filter((one) => one === operation).length;

describe("names", () => {
  const arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

  test("the id is the URI without its query, and is known while AWS is away", async () => {
    await kms.stop();
    const provider = await openKeyProvider(uriOf(kms, key), { environment: {}, create: false });
    expect(provider.id).toBe(`aws-kms:${key.arn}`);
    await provider.close();
    expect(kms.requests).toEqual([]);
  });

  test.each([
    arn,
    arn.replace("arn:aws:", "arn:aws-us-gov:").replace("eu-central-1", "us-gov-west-1"),
    arn.replace(/key\/.*/, "key/mrk-1234abcd12ab34cd56ef1234567890ab"),
    `${arn}?endpoint=https://vpce-1234.kms.eu-central-1.vpce.amazonaws.com`,
    `${arn}?endpoint=http://[::1]:4566`,
  ])("%s is taken", (uri) => {
    expect(openAt(`aws-kms:${uri}`).id).toBe(`aws-kms:${uri.split("?")[0] ?? ""}`);
  });

  test.each([
    ["alias/tacenda", "alias"],
    [arn.replace(/key\/.*/, "alias/tacenda"), "alias"],
    ["1234abcd-12ab-34cd-56ef-1234567890ab", "whole ARN"],
    [arn.replace(":kms:", ":s3:"), "whole ARN"],
    [arn.replace("eu-central-1", ""), "whole ARN"],
    [`${arn}/..`, "whole ARN"],
    [`${arn}?endpoint=https://a?endpoint=https://b`, "whole ARN"],
    [`${arn}?endpoint=http://kms.example.org`, "https"],
    [`${arn}?endpoint=http://127.0.0.1.example.org`, "https"],
    [`${arn}?endpoint=https://user:word@kms.example.org`, "https"],
    [`${arn}?endpoint=https://kms.example.org/path`, "https"],
    [`${arn}?endpoint=kms`, "https"],
    [`${arn}?endpoint=https://a&endpoint=https://b`, "nothing in its query"],
    [`${arn}?region=eu-central-1`, "nothing in its query"],
    [`${arn}?`, "nothing in its query"],
  ])("%s is refused", (uri, message) => {
    expect(() => openAwsKms(`aws-kms:${uri}`, sdk)).toThrow(
      expect.objectContaining({ name: "InvalidOptionError", message: expect.stringContaining(message) as unknown }),
    );
  });

  test("a multi-Region key wraps and unwraps", async () => {
    key = kms.createKey("mrk-1234abcd12ab34cd56ef1234567890ab");
    const provider = open();
    const bytes = randomBytes(32);
    expect(Buffer.from(await provider.unwrap(await provider.wrap(bytes, context), context))).toEqual(bytes);
  });

  test("without the package, the message says which one to install", async () => {
    vi.doMock("@aws-sdk/client-kms", () => {
      throw new Error("Cannot find package");
    });
    await expect(openKeyProvider(`aws-kms:${arn}`, { environment: {}, create: false })).rejects.toMatchObject({
      name: "StartupError",
      message: expect.stringContaining("npm install @aws-sdk/client-kms") as unknown,
    });
    vi.doUnmock("@aws-sdk/client-kms");
  });

  test("no endpoint without TLS is taken from the SDK's own variables", async () => {
    vi.stubEnv("AWS_ENDPOINT_URL_KMS", "http://kms.example.org");
    const error = await failure(openAt(`aws-kms:${arn}`).wrap(randomBytes(32), context));
    expect(error.message).toContain("without TLS");
  });
});

describe("wraps", () => {
  test("are the blob of AWS under the specified encryption context", async () => {
    key.rotateAutomatically();
    const bytes = randomBytes(32);
    const wrap = await open().wrap(bytes, context);
    expect(wrap.masterVersion).toBe(2);
    const bound = {
      "tacenda:format": "tacenda/1/wrap",
      "tacenda:project": "default",
      "tacenda:store": "user-tokens",
      "tacenda:purpose": "data",
      "tacenda:key-version": "1",
      "tacenda:master-version": "2",
    };
    expect(key.decrypt(Buffer.from(wrap.wrapped), bound)).toEqual(bytes);
    const made = key.encrypt(bytes, bound);
    expect(Buffer.from(await open().unwrap({ masterVersion: 2, wrapped: made }, context))).toEqual(bytes);
  });

  test("of a wrong length inside are refused", async () => {
    const wrap = await open().wrap(randomBytes(32), context);
    kms.tamper = (_operation, text) =>
      JSON.stringify({ ...(JSON.parse(text) as object), Plaintext: randomBytes(31).toString("base64") });
    expect((await failure(open().unwrap(wrap, context))).fault).toBe("refused");
  });

  test("are refused when another key answers", async () => {
    const provider = open();
    const wrap = await provider.wrap(randomBytes(32), context);
    const other = kms.createKey().arn;
    kms.tamper = (_operation, text) => text.replaceAll(key.arn, other);
    const works = [
      provider.wrap(randomBytes(32), context),
      provider.unwrap(wrap, context),
      provider.rewrap(wrap, context),
    ];
    for (const error of await Promise.all(works.map(failure))) {
      expect(error.fault).toBe("refused");
      expect(error.message).toContain(`did not use the key ${key.arn}`);
    }
  });

  test("the key is named in every request", async () => {
    const provider = open();
    await provider.health();
    await provider.rewrap(await provider.wrap(randomBytes(32), context), context);
    await provider.masterKeys.versions();
    await provider.masterKeys.rotate();
    for (const [operation, input] of kms.inputs) {
      const names = operation === "ReEncrypt" ? (["SourceKeyId", "DestinationKeyId"] as const) : (["KeyId"] as const);
      expect(names.map((name) => input[name])).toEqual(names.map(() => key.arn));
    }
    expect(new Set(kms.requests).size).toBe(7);
  });

  test("too long or empty ones are refused without asking AWS", async () => {
    for (const length of [0, 6_145]) {
      const wrap = { masterVersion: 1, wrapped: new Uint8Array(length) };
      expect((await failure(open().unwrap(wrap, context))).fault).toBe("refused");
      expect((await failure(open().rewrap(wrap, context))).fault).toBe("refused");
    }
    expect(kms.requests).toEqual([]);
  });

  test("an answer that cannot be read is an outage, and nothing quotes it", async () => {
    const provider = open();
    const bytes = randomBytes(32);
    const wrap = await provider.wrap(bytes, context);
    // Node's parser quotes what is around a mistake.
    kms.tamper = (_operation, text) => text.replace('"Plaintext":"', '"Plaintext":x"');
    const error = await failure(provider.unwrap(wrap, context));
    expect(error.fault).toBe("unavailable");
    expect(inspect(error, { showHidden: true, depth: 9 })).not.toContain(bytes.toString("base64").slice(0, 6));
  });
});

describe("failures", () => {
  const REFUSED: [name: string, status: number, message: string][] = [
    ["InvalidCiphertextException", 400, "does not open under the key provider"],
    ["IncorrectKeyException", 400, "does not open under the key provider"],
  ];
  /** Those that somebody must mend first among them: when it is mended, the server goes on by itself. */
  const UNAVAILABLE: [name: string, status: number, message: string][] = [
    ["AccessDeniedException", 400, "allow kms:Decrypt"],
    ["DisabledException", 400, "is disabled: enable it"],
    ["KMSInvalidStateException", 400, "deletion is pending"],
    ["NotFoundException", 400, "is not there"],
    ["InvalidKeyUsageException", 400, "symmetric encryption key"],
    ["UnsupportedOperationException", 400, "custom key stores"],
    ["InvalidArnException", 400, "ARN"],
    ["ValidationException", 400, "endpoint"],
    ["ThrottlingException", 400, "asked too often"],
    ["LimitExceededException", 400, "quota"],
    ["KMSInternalException", 500, "try again later"],
    ["DependencyTimeoutException", 503, "try again later"],
    ["KeyUnavailableException", 500, "try again later"],
    ["ConflictException", 400, "20 minutes"],
    ["ExpiredTokenException", 400, "expired: renew"],
    ["UnrecognizedClientException", 400, "does not take this server's credentials"],
    ["InvalidSignatureException", 400, "clock"],
    ["SomethingNewException", 400, "cannot be reached"],
    ["ServiceUnavailable", 503, "cannot be reached"],
  ];

  test.each([
    ...REFUSED.map((one) => ["refused", ...one] as const),
    ...UNAVAILABLE.map((one) => ["unavailable", ...one] as const),
  ])("%s: %s", async (fault, name, status, message) => {
    const provider = open();
    const wrap = await provider.wrap(randomBytes(32), context);
    kms.failure = () => new AwsError(name, "Something of AWS", status);
    const error = await failure(provider.unwrap(wrap, context));
    expect(error.fault).toBe(fault);
    expect(error.message).toContain(message);
    expect(error.message).toContain(key.arn);
    expect(error.cause).toMatchObject({ name, message: "Something of AWS" });
  });

  test.each([
    ["kms:Encrypt", (provider: AwsKms) => provider.wrap(randomBytes(32), context)],
    ["kms:Decrypt", (provider: AwsKms) => provider.unwrap({ masterVersion: 1, wrapped: randomBytes(99) }, context)],
    [
      "kms:ReEncryptFrom",
      (provider: AwsKms) => provider.rewrap({ masterVersion: 1, wrapped: randomBytes(99) }, context),
    ],
    ["kms:ReEncryptTo", (provider: AwsKms) => provider.rewrap({ masterVersion: 1, wrapped: randomBytes(99) }, context)],
    ["kms:ListKeyRotations", (provider: AwsKms) => provider.wrap(randomBytes(32), context)],
    ["kms:ListKeyRotations", (provider: AwsKms) => provider.currentVersion()],
    ["kms:DescribeKey", (provider: AwsKms) => provider.masterKeys.versions()],
    ["kms:GetKeyRotationStatus", (provider: AwsKms) => provider.masterKeys.rotate()],
    ["kms:RotateKeyOnDemand", (provider: AwsKms) => provider.masterKeys.rotate()],
  ])("a policy without %s is told by that name", async (action, work) => {
    kms.denied.add(action);
    const error = await failure(work(open()));
    expect(error.fault).toBe("unavailable");
    expect(error.message).toContain(action);
    expect(error.message).toContain("key's own policy");
  });

  test.each([
    ["Disabled", "is disabled"],
    ["PendingDeletion", "deletion is pending"],
    ["PendingImport", "import it again"],
  ] as const)("a key in state %s cannot be used, and serves again when it is enabled", async (state, message) => {
    const provider = open();
    const wrap = await provider.wrap(randomBytes(32), context);
    key.state = state;
    const works = [provider.unwrap(wrap, context), provider.wrap(randomBytes(32), context), provider.health()];
    for (const error of await Promise.all(works.map(failure))) {
      expect(error.fault).toBe("unavailable");
      expect(error.message).toContain(message);
    }
    key.state = "Enabled";
    await provider.health();
    await provider.unwrap(wrap, context);
  });

  test("a key of another kind is refused", async () => {
    key.usage = "SIGN_VERIFY";
    expect((await failure(open().wrap(randomBytes(32), context))).message).toContain("symmetric encryption key");
    key.hasRotations = false;
    expect((await failure(open().currentVersion())).message).toContain("custom key stores");
  });

  test("an endpoint of another Region is told as such", async () => {
    const uri = uriOf(kms, { arn: key.arn.replace("eu-central-1", "us-east-2") });
    const error = await failure(openAt(uri).currentVersion());
    expect(error.message).toContain("Region of the endpoint");
  });

  test("a clock that is wrong is told as such", async () => {
    kms.skew = 20 * 60_000;
    expect((await failure(open().currentVersion())).message).toContain("clock");
  });

  test("without credentials it is unavailable, and says where they can come from", async () => {
    for (const name of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]) vi.stubEnv(name, undefined);
    for (const name of ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"]) vi.stubEnv(name, "/nonexistent");
    const error = await failure(open().currentVersion());
    expect(error.fault).toBe("unavailable");
    expect(error.message).toContain("no AWS credentials are to be had");
  });

  test("what passes by itself is tried once more, and no more than that", async () => {
    const provider = open();
    let left = 1;
    kms.failure = () => (left-- > 0 ? new AwsError("KMSInternalException", "", 500) : undefined);
    await provider.currentVersion();
    expect(count("ListKeyRotations")).toBe(2);
    kms.failure = () => new AwsError("ThrottlingException", "");
    await failure(provider.wrap(randomBytes(32), context));
    expect(count("Encrypt")).toBe(2);
  });
});
