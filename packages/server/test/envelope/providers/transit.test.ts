/** The transit key provider: what it sends, and what every failure becomes; spec/envelope.md § Transit. */

import { randomBytes } from "node:crypto";

import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { KeyProviderError, type KeyProvider, type WrapContext } from "../../../src/envelope/key-provider.js";
import { openKeyProvider } from "../../../src/envelope/open-key-provider.js";
import { contextBytes } from "../../../src/envelope/providers/wrap-format.js";
import { TransitDouble, leastPolicy } from "./transit-double.js";

const CONTEXT: WrapContext = { project: "default", store: "user-tokens", purpose: "data", version: 1 };

let double: TransitDouble;
let token: string;
const opened: KeyProvider[] = [];

beforeEach(async () => {
  double = await TransitDouble.start();
  double.createKey("one");
  token = double.createToken({ policy: leastPolicy("transit", "one") });
});

afterEach(async () => {
  for (const provider of opened.splice(0)) await provider.close();
  await double.stop();
});

async function open({ using = token, path = "/transit/keys/one" } = {}): Promise<KeyProvider> {
  const environment = { TACENDA_TRANSIT_TOKEN: using };
  const provider = await openKeyProvider(`transit:${double.url}${path}`, { environment, create: false });
  opened.push(provider);
  return provider;
}

const wrapFresh = (provider: KeyProvider) => provider.wrap(new Uint8Array(randomBytes(32)), CONTEXT);

/** What `work` is refused with, which never tells the token. */
async function failure(work: Promise<unknown>): Promise<KeyProviderError> {
  const error: unknown = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(KeyProviderError);
  const { message, stack, cause } = error as KeyProviderError;
  expect(`${message} ${stack ?? ""} ${String(cause)}`).not.toContain(token);
  return error as KeyProviderError;
}

async function expectUnavailable(work: Promise<unknown>, message: RegExp | string): Promise<void> {
  const error = await failure(work);
  expect(error.message).toMatch(message);
  expect(error.fault).toBe("unavailable");
}

async function expectRefused(work: Promise<unknown>, message: RegExp | string): Promise<void> {
  const error = await failure(work);
  expect(error.message).toMatch(message);
  expect(error.fault).toBe("refused");
}

describe("wraps", () => {
  test("are the engine's ciphertext, which opens with the context of the specification and no other", async () => {
    const provider = await open();
    const key = new Uint8Array(randomBytes(32));
    const { wrapped, masterVersion } = await provider.wrap(key, CONTEXT);
    const ciphertext = Buffer.from(wrapped).toString("latin1");
    expect(ciphertext).toMatch(/^vault:v1:[A-Za-z0-9+/]{80}$/);
    expect(masterVersion).toBe(1);
    const engine = double.keys.get("one") ?? expect.unreachable();
    expect(engine.decrypt(ciphertext, contextBytes(CONTEXT))).toEqual(Buffer.from(key));
    expect(() => engine.decrypt(ciphertext, contextBytes({ ...CONTEXT, version: 2 }))).toThrow("authentication failed");
  });

  test("that the engine's lenient base64 would open are refused before they are sent", async () => {
    const provider = await open();
    const wrap = await wrapFresh(provider);
    const text = Buffer.from(wrap.wrapped).toString("latin1");
    const lenient = `${text.slice(0, 20)}\n${text.slice(20)}`;
    const engine = double.keys.get("one") ?? expect.unreachable();
    expect(engine.decrypt(lenient, contextBytes(CONTEXT))).toHaveLength(32);
    const before = double.seen.length;
    for (const edited of [lenient, text.replace("v1", "v01"), text.replace("v1", "v+1"), `${text}\n`]) {
      await expectRefused(provider.unwrap({ ...wrap, wrapped: Buffer.from(edited) }, CONTEXT), "does not open");
    }
    expect(double.seen).toHaveLength(before);
  });

  test("of a version that the engine does not know are refused, and say that a backup may be older", async () => {
    const provider = await open();
    await provider.masterKeys?.rotate();
    const wrap = await wrapFresh(provider);
    double.createKey("one");
    await expectRefused(provider.unwrap(wrap, CONTEXT), /version 2 .* not there.*older backup/);
  });

  test("are never made by making the key", async () => {
    const policy = { "transit/*": ["create", "read", "update"] };
    const provider = await open({ using: double.createToken({ policy }), path: "/transit/keys/absent" });
    await expectUnavailable(wrapFresh(provider), "vault write transit/keys/absent type=aes256-gcm96 derived=true");
    expect(double.keys.has("absent")).toBe(false);
  });

  test("go in one call each, and the key is looked at once in a while", async () => {
    const provider = await open();
    for (let index = 0; index < 5; index++) await provider.unwrap(await wrapFresh(provider), CONTEXT);
    const count = (path: string) => double.seen.filter((one) => one.path === path).length;
    expect(count("transit/encrypt/one")).toBe(5);
    expect(count("transit/decrypt/one")).toBe(5);
    expect(count("transit/keys/one")).toBe(1);
  });
});

describe("a key is not fit", () => {
  const faults = [
    [{ type: "aes128-gcm96" }, "type is not aes256-gcm96"],
    [{ type: "chacha20-poly1305" }, "type is not aes256-gcm96"],
    [{ derived: false }, "not derived"],
    [{ convergent_encryption: true }, "convergent"],
    [{ exportable: true }, "exportable"],
    [{ allow_plaintext_backup: true }, "backups in plain text"],
    [{ soft_deleted: true }, "soft-deleted"],
  ] as const;

  test.each(faults)("%o", async (attributes, message) => {
    Object.assign((double.keys.get("one") ?? expect.unreachable()).attributes, attributes);
    const provider = await open();
    await expectUnavailable(wrapFresh(provider), message);
    await expectUnavailable(provider.health(), message);
    if (provider.masterKeys) await expectUnavailable(provider.masterKeys.rotate(), message);
    expect(double.seen.some(({ path }) => path.includes("encrypt"))).toBe(false);
  });

  test("and what it wrapped before still opens", async () => {
    const provider = await open();
    const wrap = await wrapFresh(provider);
    (double.keys.get("one") ?? expect.unreachable()).attributes.exportable = true;
    expect(await provider.unwrap(wrap, CONTEXT)).toHaveLength(32);
    await expectUnavailable((await open()).rewrap?.(wrap, CONTEXT) ?? expect.unreachable(), "exportable");
  });

  test("and a soft-deleted key is told as such where something is opened", async () => {
    const provider = await open();
    const wrap = await wrapFresh(provider);
    (double.keys.get("one") ?? expect.unreachable()).attributes.soft_deleted = true;
    await expectUnavailable(provider.unwrap(wrap, CONTEXT), "soft-delete-restore");
  });
});

describe("the life of versions", () => {
  const states = async (provider: KeyProvider) =>
    ((await provider.masterKeys?.versions()) ?? []).map(({ state }) => state).join(" ");

  async function withVersions(count: number) {
    const provider = await open();
    const { masterKeys } = provider;
    if (!masterKeys) return expect.unreachable();
    const wraps = [await wrapFresh(provider)];
    while (wraps.length < count) {
      await masterKeys.rotate();
      wraps.push(await wrapFresh(provider));
    }
    const call = (name: "retire" | "reinstate" | "destroy") => (version: number) =>
      masterKeys[name]?.(version) ?? expect.unreachable();
    return {
      provider,
      masterKeys,
      wraps,
      retire: call("retire"),
      reinstate: call("reinstate"),
      destroy: call("destroy"),
    };
  }

  test("is told with the times that the engine tells", async () => {
    const { masterKeys, retire } = await withVersions(3);
    await retire(1);
    const versions = await masterKeys.versions();
    expect(versions.map(({ version, state }) => `${version} ${state}`)).toEqual([
      "1 retired",
      "2 enabled",
      "3 enabled",
    ]);
    expect(versions[0]?.createdAt).toBe(null);
    expect(Math.abs((versions[2]?.createdAt ?? 0) - Date.now())).toBeLessThan(10_000);
    expect(masterKeys.scheduled).toBe(true);
  });

  test("retires from the lowest on, reinstates from the highest, destroys from the lowest", async () => {
    const { provider, wraps, retire, reinstate, destroy } = await withVersions(5);
    await expectRefused(retire(3), "versions 1 to 2 would be retired with version 3");
    await expectRefused(retire(5), "current one");
    for (const version of [1, 2, 3]) await retire(version);
    await retire(2);
    expect(await states(provider)).toBe("retired retired retired enabled enabled");
    await expectRefused(provider.unwrap(wraps[1] ?? expect.unreachable(), CONTEXT), /version 2 .*is retired/);
    await expectRefused(reinstate(1), "versions 2 to 3 would be reinstated with version 1");
    await reinstate(3);
    await reinstate(3);
    expect(await states(provider)).toBe("retired retired enabled enabled enabled");
    await expectRefused(destroy(3), "version 3 enabled");
    await expectRefused(destroy(2), "version 1 would be destroyed with version 2");
    for (const version of [1, 1, 2]) await destroy(version);
    expect(await states(provider)).toBe("destroyed destroyed enabled enabled enabled");
    await expectRefused(provider.unwrap(wraps[0] ?? expect.unreachable(), CONTEXT), /version 1 .*was destroyed/);
    await expectRefused(reinstate(2), "for good");
    await expectRefused(retire(2), "destroyed version 2");
    for (const wrap of wraps.slice(2)) expect(await provider.unwrap(wrap, CONTEXT)).toHaveLength(32);
    for (const version of [0, 6, 1.5, -1]) await expectRefused(retire(version), "has no version");
  });

  test("minds min_encryption_version, whether it is set or not", async () => {
    const { provider, retire, destroy, reinstate } = await withVersions(4);
    const key = double.keys.get("one") ?? expect.unreachable();
    await retire(1);
    expect([key.minDecryption, key.minEncryption]).toEqual([2, 0]);
    key.minEncryption = 2;
    await retire(2);
    expect([key.minDecryption, key.minEncryption]).toEqual([3, 3]);
    await destroy(1);
    expect([key.minAvailable, key.minEncryption]).toEqual([2, 3]);
    await reinstate(2);
    expect(await states(provider)).toBe("destroyed enabled enabled enabled");
    expect((await wrapFresh(provider)).masterVersion).toBe(4);
  });

  test("goes on on servers that do not describe a key after a change", async () => {
    double.bare = true;
    const { provider, retire, destroy } = await withVersions(3);
    await retire(1);
    await destroy(1);
    expect(await states(provider)).toBe("destroyed enabled enabled");
  });

  test("follows rotations of others, at once where a wrap shows them", async () => {
    const provider = await open();
    expect(await provider.currentVersion()).toBe(1);
    double.keys.get("one")?.rotate();
    expect((await wrapFresh(provider)).masterVersion).toBe(2);
    expect(await provider.currentVersion()).toBe(2);
  });

  test("tells when an imported key cannot be rotated", async () => {
    double.createKey("one", { imported_key: true });
    const provider = await open();
    if (provider.masterKeys) await expectRefused(provider.masterKeys.rotate(), "allow_rotation=true");
  });

  test("sends a rotation once, and everything else again when its connection breaks", async () => {
    const provider = await open();
    let drops = 1;
    double.instead = ({ path }) => (path.startsWith("transit/") && drops-- > 0 ? null : undefined);
    await provider.health();
    expect(drops).toBeLessThanOrEqual(0);
    double.instead = ({ path }) => (path.endsWith("/rotate") ? null : undefined);
    if (provider.masterKeys) await expectUnavailable(provider.masterKeys.rotate(), "cannot be reached");
    expect(double.seen.filter(({ path }) => path.endsWith("/rotate"))).toHaveLength(1);
  });
});

describe("failures of the server", () => {
  /** Every call that a provider makes, on one that has worked before. */
  async function expectAllUnavailable(message: RegExp | string, begin: () => void): Promise<void> {
    const provider = await open();
    const wrap = await wrapFresh(provider);
    begin();
    await expectUnavailable(provider.unwrap(wrap, CONTEXT), message);
    await expectUnavailable(wrapFresh(provider), message);
    await expectUnavailable(provider.rewrap?.(wrap, CONTEXT) ?? expect.unreachable(), message);
    await expectUnavailable(provider.health(), message);
    if (provider.masterKeys) await expectUnavailable(provider.masterKeys.versions(), message);
  }

  test("sealed", () => expectAllUnavailable(/sealed.*unseal/, () => (double.state = "sealed")));

  test.each([429, 412, 418, 500, 502, 504])("status %i", async (status) => {
    await expectAllUnavailable(`HTTP ${status}`, () => (double.instead = () => ({ status, body: '{"errors":[]}' })));
  });

  test.each([
    ["no JSON", "<html>Sign in</html>"],
    ["empty", ""],
    ["of another form", '{"data":{"ciphertext":1,"plaintext":[],"keys":[]}}'],
    ["null", "null"],
    ["a ciphertext of another length", '{"data":{"ciphertext":"vault:v1:AAAA","plaintext":"AAAA"}}'],
  ])("an answer that is %s", async (_, body) => {
    await expectAllUnavailable(
      "what no transit engine answers",
      () => (double.instead = () => ({ status: 200, body })),
    );
  });

  test("an answer that is right but too large", async () => {
    await expectAllUnavailable("answered more than", () => (double.padding = 1024 * 1024));
  });

  test("a 400 that no engine gives is no verdict on a wrap", async () => {
    const provider = await open();
    const wrap = await wrapFresh(provider);
    double.instead = () => ({ status: 400, body: `{"errors":["the token ${token} is odd"]}` });
    await expectUnavailable(provider.unwrap(wrap, CONTEXT), "HTTP 400");
  });

  test("a standby's redirect is not followed, wherever it goes", async () => {
    const elsewhere = await TransitDouble.start();
    try {
      for (const active of [elsewhere.url, double.url]) {
        double.active = active;
        double.state = "active";
        await expectAllUnavailable(/redirect \(HTTP 307\).*active node/, () => (double.state = "standby"));
      }
      expect(elsewhere.seen).toEqual([]);
    } finally {
      await elsewhere.stop();
    }
  });

  test("slow answers are waited for 3 s and no longer", async () => {
    const provider = await open();
    const wrap = await wrapFresh(provider);
    double.delay = 20_000;
    const started = performance.now();
    await Promise.all([
      expectUnavailable(provider.unwrap(wrap, CONTEXT), "within 3 s"),
      expectUnavailable(provider.health(), "within 3 s"),
    ]);
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test("answers that begin and do not end are waited for no longer", async () => {
    const provider = await open();
    const wrap = await wrapFresh(provider);
    double.stalls = true;
    const started = performance.now();
    await expectUnavailable(provider.unwrap(wrap, CONTEXT), "within 3 s");
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test("closing ends what is under way", async () => {
    const provider = await open();
    double.delay = 20_000;
    const work = expectUnavailable(provider.health(), "this server stops");
    await expect.poll(() => double.seen.length).toBeGreaterThan(0);
    await provider.close();
    await work;
  });

  test("a missing key, engine or namespace says what to do", async () => {
    const provider = await open();
    const wrap = await wrapFresh(provider);
    double.keys.delete("one");
    await expectUnavailable(provider.unwrap(wrap, CONTEXT), /does not exist.*restore it/);
    await expectUnavailable(provider.health(), "vault write transit/keys/one");
    const using = double.createToken({ policy: "root" });
    const lost = await open({ using, path: "/team/transit/keys/one" });
    await expectUnavailable(lost.health(), "vault secrets enable -path=team/transit transit");
  });

  test("nothing is contacted before the first call, and a server that comes later is found", async () => {
    await double.stop();
    const provider = await open();
    expect(double.seen).toEqual([]);
    await expectUnavailable(provider.health(), /cannot be reached \(ECONNREFUSED\)/);
    await double.listen();
    await provider.health();
  });
});

describe("policies", () => {
  const policyWithout = (path: string) =>
    Object.fromEntries(Object.entries(leastPolicy("transit", "one")).filter(([each]) => each !== path));

  test.each(Object.keys(leastPolicy("transit", "one")))("without %s the message names it", async (path) => {
    const policy = policyWithout(path);
    const full = await open();
    const { masterKeys } = full;
    const old = await wrapFresh(full);
    await masterKeys?.rotate();
    const provider = await open({ using: double.createToken({ policy }) });
    const work = async () => {
      const keys = provider.masterKeys;
      await provider.unwrap(await provider.wrap(randomBytes(32), CONTEXT), CONTEXT);
      await provider.rewrap?.(old, CONTEXT);
      await keys?.rotate();
      await keys?.retire?.(1);
      await keys?.destroy?.(1);
    };
    const capability = path === "transit/keys/one" ? "read" : "update";
    await expectUnavailable(work(), `lacks path "${path}" { capabilities = ["${capability}"] }`);
  });

  test("health proves that the token may encrypt and decrypt, once in a while", async () => {
    const policy = policyWithout("transit/decrypt/one");
    const blind = await open({ using: double.createToken({ policy }) });
    for (let repeat = 0; repeat < 2; repeat++) await expectUnavailable(blind.health(), "transit/decrypt/one");
    const provider = await open();
    const proofs = () => double.seen.filter((one) => one.path === "transit/decrypt/one").length;
    await provider.health();
    const before = proofs();
    await provider.health();
    expect(proofs()).toBe(before);
  });

  test.each([false, true])(
    "a revoked token is told from a poor policy (with the texts of Vault: %s)",
    async (texts) => {
      double.vaultTexts = texts;
      const provider = await open();
      await provider.health();
      double.revoke(token);
      await expectUnavailable(provider.health(), "the token has ended, was revoked");
    },
  );
});
