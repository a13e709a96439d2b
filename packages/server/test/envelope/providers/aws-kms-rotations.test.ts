/** AWS KMS as a key provider, beyond the contract: rotations, time, health; spec/envelope.md § AWS KMS. */

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import type { WrapContext } from "../../../src/envelope/key-provider.js";
import type { AwsKmsTimes } from "../../../src/envelope/providers/aws-kms.js";
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

const open = (times: Partial<AwsKmsTimes> = {}) => openAt(uriOf(kms, key), times);

const count = (operation: string) => kms.requests.filter((one) => one === operation).length;

describe("time", () => {
  const short = { connect: 200, silence: 300 };

  test.each(["delay", "stalls"] as const)(
    "an answer that does not come (%s) is bounded, and its socket given back",
    async (how) => {
      const provider = open(short);
      const wrap = await provider.wrap(randomBytes(32), context);
      if (how === "delay") kms.delay = 5_000;
      else kms.stalls = true;
      const started = performance.now();
      const error = await failure(provider.unwrap(wrap, context));
      expect(performance.now() - started).toBeLessThan(1_500);
      expect(error.fault).toBe("unavailable");
      await expect.poll(() => kms.connections()).toBe(0);
      kms.delay = 0;
      kms.stalls = false;
      await provider.unwrap(wrap, context);
    },
  );

  test("the whole call is bounded, whatever the attempts are, and its socket given back", async () => {
    const provider = open({ silence: 60_000, total: 300 });
    kms.delay = 5_000;
    const error = await failure(provider.wrap(randomBytes(32), context));
    expect(error).toMatchObject({
      fault: "unavailable",
      message: expect.stringContaining("did not answer in time") as unknown,
    });
    await expect.poll(() => kms.connections()).toBe(0);
  });

  test("so is looking for credentials", async () => {
    for (const name of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]) vi.stubEnv(name, undefined);
    for (const name of ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"]) vi.stubEnv(name, "/nonexistent");
    vi.stubEnv("AWS_CONTAINER_CREDENTIALS_FULL_URI", kms.endpoint);
    kms.delay = 2_000;
    const error = await failure(open({ total: 300 }).wrap(randomBytes(32), context));
    expect(error.message).toContain("where credentials come from");
  });

  test("a connection is used again, and closed with the provider", async () => {
    const provider = open();
    for (let turn = 0; turn < 5; turn++) await provider.wrap(randomBytes(32), context);
    expect(await kms.connections()).toBe(1);
    await provider.masterKeys.rotate();
    await provider.close();
    await expect.poll(() => kms.connections()).toBe(0);
  });
});

describe("health", () => {
  test("is looked at once for many who ask, and again only after a while", async () => {
    const provider = open({ healthKept: 400 });
    await Promise.all([provider.health(), provider.health()]);
    await provider.health();
    expect([count("Encrypt"), count("Decrypt")]).toEqual([1, 1]);
    await sleep(450);
    await provider.health();
    expect(count("Decrypt")).toBe(2);
  });

  test("is looked at afresh after any failure", async () => {
    const provider = open();
    await provider.health();
    kms.denied.add("kms:Decrypt");
    await provider.health();
    await failure(provider.unwrap({ masterVersion: 1, wrapped: randomBytes(99) }, context));
    expect((await failure(provider.health())).message).toContain("kms:Decrypt");
    kms.denied.clear();
    await provider.health();
  });

  test.each(["kms:Encrypt", "kms:Decrypt", "kms:ListKeyRotations"])("needs %s", async (action) => {
    kms.denied.add(action);
    expect((await failure(open().health())).message).toContain(action);
  });
});

describe("master keys", () => {
  test("the version is one more than the rotations, over all pages", async () => {
    for (let turn = 0; turn < 5; turn++) key.rotateAutomatically();
    expect(await open().currentVersion()).toBe(6);
    expect(count("ListKeyRotations")).toBe(3);
  });

  test("versions have their dates, and none can be retired", async () => {
    key.rotateAutomatically();
    await sleep(10);
    key.rotateAutomatically();
    const { masterKeys } = open();
    expect(await masterKeys.versions()).toEqual([
      { version: 1, createdAt: key.creationDate, state: "enabled" },
      { version: 2, createdAt: key.materials[1]?.rotationDate, state: "enabled" },
      { version: 3, createdAt: key.materials[2]?.rotationDate, state: "enabled" },
    ]);
    expect(masterKeys.scheduled).toBe(false);
    expect(Object.keys(masterKeys).sort()).toEqual(["instead", "rotate", "scheduled", "versions"]);
    expect(masterKeys.instead).toContain("keys migrate");
  });

  test("a rotation by AWS's own schedule is noticed after a while, and what was wrapped before is wrapped anew", async () => {
    const provider = open({ kept: 200 });
    const bytes = randomBytes(32);
    const before = await provider.wrap(bytes, context);
    key.rotateAutomatically();
    expect(await provider.currentVersion()).toBe(1);
    expect(count("ListKeyRotations")).toBe(1);

    // Made under the new material with the earlier label: the race that is harmless.
    const mislabelled = await provider.wrap(bytes, context);
    expect(mislabelled.masterVersion).toBe(1);

    await sleep(250);
    expect(await provider.currentVersion()).toBe(2);
    for (const wrap of [before, mislabelled]) {
      expect(Buffer.from(await provider.unwrap(wrap, context))).toEqual(bytes);
      const renewed = await provider.rewrap(wrap, context);
      expect(renewed.masterVersion).toBe(2);
      expect(Buffer.from(await provider.unwrap(renewed, context))).toEqual(bytes);
    }
  });

  test("a version once seen does not go back when a server at AWS lags behind", async () => {
    const provider = open({ kept: 0 });
    key.rotateAutomatically();
    expect(await provider.currentVersion()).toBe(2);
    kms.tamper = () => JSON.stringify({ Rotations: [], Truncated: false });
    expect(await provider.currentVersion()).toBe(2);
  });

  test("the store key does not leave AWS when it is wrapped anew", async () => {
    const provider = open();
    const wrap = await provider.wrap(randomBytes(32), context);
    await provider.rewrap(wrap, context);
    expect(kms.requests).toEqual(["ListKeyRotations", "Encrypt", "ReEncrypt"]);
  });

  test("rotating waits for AWS, asks it once, and knows the new version at once", async () => {
    const provider = open();
    expect(await provider.currentVersion()).toBe(1);
    expect(await provider.masterKeys.rotate()).toBe(2);
    expect(await provider.currentVersion()).toBe(2);
    expect(count("RotateKeyOnDemand")).toBe(1);
  });

  test("a rotation that takes too long is told, and another try waits for the same one", async () => {
    key.rotationTime = 1_500;
    const provider = open({ wait: 600 });
    const error = await failure(provider.masterKeys.rotate());
    expect(error.fault).toBe("unavailable");
    expect(error.message).toContain("is under way");
    expect(await open().masterKeys.rotate()).toBe(2);
    expect(count("RotateKeyOnDemand")).toBe(1);
    expect(key.materials).toHaveLength(2);
  });

  test("a passing failure while it waits is no failure", async () => {
    let looks = 0;
    kms.failure = (operation) =>
      operation === "ListKeyRotations" && ++looks > 1 && looks < 4
        ? new AwsError("ThrottlingException", "")
        : undefined;
    expect(await open().masterKeys.rotate()).toBe(2);
  });

  test("a rotation is not asked for twice when its answer is lost", async () => {
    kms.failure = (operation) =>
      operation === "RotateKeyOnDemand" ? new AwsError("KMSInternalException", "", 500) : undefined;
    expect((await failure(open().masterKeys.rotate())).fault).toBe("unavailable");
    expect(count("RotateKeyOnDemand")).toBe(1);
  });

  test("without rotations left it says so", async () => {
    key.rotationTime = 0;
    for (let turn = 0; turn < 25; turn++) {
      key.rotateOnDemand();
      await sleep(3);
    }
    const error = await failure(open().masterKeys.rotate());
    expect(error.fault).toBe("unavailable");
    expect(error.message).toContain("no on-demand rotations left");
  });

  test("a replica's rotation is refused with what to do", async () => {
    kms.failure = (operation) =>
      operation === "RotateKeyOnDemand" ? new AwsError("UnsupportedOperationException", "") : undefined;
    expect((await failure(open().masterKeys.rotate())).message).toContain("rotate its primary key");
  });
});
