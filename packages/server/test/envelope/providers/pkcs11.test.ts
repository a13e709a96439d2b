/** Master keys on hardware tokens: what they are on the token, and what becomes of failures; spec/envelope.md § Hardware tokens. */

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";

import { afterEach, beforeEach, describe, expect, test } from "vitest";

import type { KeyProvider, WrapContext } from "../../../src/envelope/key-provider.js";
import { openKeyProvider } from "../../../src/envelope/open-key-provider.js";
import { CK, type Attribute } from "../../../src/envelope/providers/pkcs11-cryptoki.js";
import { StartupError } from "../../../src/startup-error.js";
import { PIN, SoftHsm, hasSoftHsm } from "./softhsm.js";

const CONTEXT: WrapContext = { project: "default", store: "user-tokens", purpose: "data", version: 1 };
const WRONG_PIN = "wrong horse";

const unavailable = (why: string) => ({
  name: "KeyProviderError",
  fault: "unavailable",
  message: expect.stringContaining(why) as unknown,
});
const refused = (why: string | RegExp) => ({
  name: "KeyProviderError",
  fault: "refused",
  message: (typeof why === "string" ? expect.stringContaining(why) : expect.stringMatching(why)) as unknown,
});

/** The processes that this one has started and that talk to tokens. */
function tokenProcesses(): number[] {
  const children = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, "utf8").trim().split(" ");
  return children.map(Number).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("pkcs11-child");
    } catch {
      return false;
    }
  });
}

describe.runIf(hasSoftHsm)("a hardware token", () => {
  let hsm: SoftHsm;
  let opened: KeyProvider[];

  beforeEach(async () => {
    hsm = await SoftHsm.create("main");
    opened = [];
  });
  afterEach(async () => {
    for (const provider of opened) await provider.close();
    await expect.poll(tokenProcesses).toEqual([]);
    await hsm.remove();
  });

  const open = async (options: Parameters<SoftHsm["openWith"]>[1] = {}) => {
    const provider = await hsm.openWith("main", options);
    opened.push(provider);
    return provider;
  };
  const generate = (...attributes: Attribute[]) => hsm.byHand("main", (hand) => void hand.generate(attributes));
  const count = () => hsm.byHand("main", (hand) => hand.objects().length);
  const id = (...bytes: number[]) => ({ type: CK.CKA_ID, value: Buffer.from(bytes) });

  describe("holds master keys that", () => {
    test("have exactly the attributes of the specification, and cannot be read", async () => {
      const provider = await open();
      await provider.wrap(randomBytes(32), CONTEXT);
      expect(await provider.masterKeys.rotate()).toBe(2);
      hsm.byHand("main", (hand) => {
        const objects = hand.objects();
        const ids = objects.map((object) => hand.read(object, CK.CKA_ID)?.toString("hex"));
        expect(ids.toSorted()).toEqual(["00000001", "00000002"]);
        for (const object of objects) {
          const is = (type: number) => hand.read(object, type)?.[0] === 1;
          const yes = [CK.CKA_TOKEN, CK.CKA_PRIVATE, CK.CKA_SENSITIVE, CK.CKA_ENCRYPT, CK.CKA_DECRYPT];
          const no = [CK.CKA_EXTRACTABLE, CK.CKA_WRAP, CK.CKA_UNWRAP, CK.CKA_SIGN, CK.CKA_VERIFY, CK.CKA_DERIVE];
          expect(yes.map(is)).toEqual(yes.map(() => true));
          expect(no.map(is)).toEqual(no.map(() => false));
          expect(hand.read(object, CK.CKA_VALUE_LEN)?.[0]).toBe(32);
          expect(() => hand.read(object, CK.CKA_VALUE)).toThrow("CKR_ATTRIBUTE_SENSITIVE");
        }
      });
    });

    test("are not made before the first wrap", async () => {
      const provider = await open();
      await provider.health();
      expect(await provider.currentVersion()).toBe(1);
      expect(await provider.masterKeys.versions()).toEqual([]);
      expect(count()).toBe(0);
      expect((await provider.wrap(randomBytes(32), CONTEXT)).masterVersion).toBe(1);
      expect(await provider.masterKeys.versions()).toMatchObject([{ version: 1, state: "enabled" }]);
      expect(count()).toBe(1);
    });

    test("wrap in the format of the specification", async () => {
      const { wrapped } = await (await open()).wrap(randomBytes(32), CONTEXT);
      expect(wrapped).toHaveLength(65);
      expect(Buffer.from(wrapped).subarray(0, 5).toString("hex")).toBe("0100000001");
    });

    test("are retired by their attributes, and destroyed with their object", async () => {
      const provider = await open();
      const key = randomBytes(32);
      const wrap = await provider.wrap(key, CONTEXT);
      await provider.masterKeys.rotate();
      const allowed = () =>
        hsm.byHand("main", (hand) =>
          hand
            .objects()
            .filter((object) => hand.read(object, CK.CKA_ID)?.[3] === 1)
            .map((object) => [hand.read(object, CK.CKA_ENCRYPT)?.[0], hand.read(object, CK.CKA_DECRYPT)?.[0]]),
        );
      await provider.masterKeys.retire?.(1);
      expect(allowed()).toEqual([[0, 0]]);
      await provider.masterKeys.reinstate?.(1);
      expect(allowed()).toEqual([[1, 1]]);
      expect(Buffer.from(await provider.unwrap(wrap, CONTEXT))).toEqual(key);
      await provider.masterKeys.retire?.(1);
      await provider.masterKeys.destroy?.(1);
      expect(allowed()).toEqual([]);
      expect(await provider.masterKeys.versions()).toMatchObject([{ version: 2, state: "enabled" }]);
      await expect(provider.unwrap(wrap, CONTEXT)).rejects.toMatchObject(refused("version 1 is not on the token"));
      for (const change of ["retire", "reinstate"] as const) {
        await expect(provider.masterKeys[change]?.(1)).rejects.toMatchObject(refused("version 1 is not on"));
        await expect(provider.masterKeys[change]?.(9)).rejects.toMatchObject(refused("version 9 is not on"));
      }
      await expect(provider.masterKeys.destroy?.(9)).rejects.toMatchObject(refused("version 9 is not on"));
    });

    test("say what to do when the token lets nobody change them", async () => {
      generate({ type: MODIFIABLE, value: false }, { type: DESTROYABLE, value: true });
      const provider = await open();
      const wrap = await provider.wrap(randomBytes(32), CONTEXT);
      await provider.masterKeys.rotate();
      await expect(provider.masterKeys.retire?.(1)).rejects.toMatchObject(refused("tools of the token's maker"));
      await provider.unwrap(wrap, CONTEXT);
    });
  });

  describe("refuses a key that", () => {
    test.each<[string, Attribute, string]>([
      ["is extractable", { type: CK.CKA_EXTRACTABLE, value: true }, "it is extractable"],
      ["is not sensitive", { type: CK.CKA_SENSITIVE, value: false }, "it is not sensitive"],
      ["is not private", { type: CK.CKA_PRIVATE, value: false }, "it is not private"],
      ["is of 128 bits", { type: CK.CKA_VALUE_LEN, value: 16 }, "it has not 256 bits"],
      ["has no version", id(1), "its CKA_ID is no version"],
      ["has version 0", id(0, 0, 0, 0), "its CKA_ID is no version"],
    ])("%s", async (_, attribute, why) => {
      generate(attribute);
      const provider = await open();
      await expect(provider.health()).rejects.toMatchObject(refused(/wrong key named master/));
      await expect(provider.wrap(randomBytes(32), CONTEXT)).rejects.toMatchObject(refused(why));
      expect(count()).toBe(1);
    });

    test("is no AES key", async () => {
      hsm.byHand("main", (hand) => void hand.generate([], { mechanism: CKM_GENERIC_SECRET_KEY_GEN }));
      await expect((await open()).health()).rejects.toMatchObject(refused("it is no AES key"));
    });

    test("is wrong and newer than the current one; what others wrapped still opens", async () => {
      const provider = await open();
      const wrap = await provider.wrap(randomBytes(32), CONTEXT);
      generate({ type: CK.CKA_EXTRACTABLE, value: true }, id(0, 0, 0, 2));
      await expect(provider.wrap(randomBytes(32), CONTEXT)).rejects.toMatchObject(refused("master-key version 2"));
      expect((await provider.masterKeys.versions()).map(({ state }) => state)).toEqual(["enabled", "damaged"]);
      await provider.unwrap(wrap, CONTEXT);
      // Nobody uses the wrong one, and it may stay.
      expect(await provider.masterKeys.rotate()).toBe(3);
      expect((await provider.wrap(randomBytes(32), CONTEXT)).masterVersion).toBe(3);
    });

    test("but not one under another label", async () => {
      hsm.byHand("main", (hand) => {
        hand.generate([{ type: CK.CKA_EXTRACTABLE, value: true }], { label: "master2" });
      });
      await (await open()).health();
    });
  });

  describe("several objects of one version", () => {
    test("all open what they wrapped, and are retired and destroyed together", async () => {
      const provider = await open();
      const keys = new Map<Buffer, Awaited<ReturnType<KeyProvider["wrap"]>>>();
      const key = randomBytes(32);
      keys.set(key, await provider.wrap(key, CONTEXT));
      generate();
      generate();
      expect(await provider.masterKeys.versions()).toHaveLength(1);
      // A second wrap by each of the objects, whichever the token names first.
      for (let index = 0; index < 3; index++) {
        const another = randomBytes(32);
        keys.set(another, await provider.wrap(another, CONTEXT));
      }
      for (const [plain, wrap] of keys) expect(Buffer.from(await provider.unwrap(wrap, CONTEXT))).toEqual(plain);
      await provider.masterKeys.rotate();
      await provider.masterKeys.retire?.(1);
      for (const wrap of keys.values()) {
        await expect(provider.unwrap(wrap, CONTEXT)).rejects.toMatchObject(refused("retired"));
      }
      await provider.masterKeys.destroy?.(1);
      expect(count()).toBe(1);
    });

    test("are what servers may make that start on an empty token at once; nothing is lost by it", async () => {
      for (let round = 0; round < 3; round++) {
        const object = `race-${round}`;
        const servers = await Promise.all(Array.from({ length: 3 }, () => open({ object })));
        // So that each asks the token at the same moment.
        await Promise.all(servers.map((server) => server.health()));
        const made = await Promise.all(
          servers.map(async (server) => {
            const key = randomBytes(32);
            return { key, wrap: await server.wrap(key, CONTEXT) };
          }),
        );
        const after = await open({ object });
        for (const server of [...servers, after]) {
          for (const { key, wrap } of made) {
            expect(wrap.masterVersion).toBe(1);
            expect(Buffer.from(await server.unwrap(wrap, CONTEXT))).toEqual(key);
          }
        }
      }
    });
  });

  test("servers that rotate at once agree on what there is, and open what the others wrapped since", async () => {
    const servers = await Promise.all(Array.from({ length: 3 }, () => open()));
    for (let round = 0; round < 3; round++) {
      await Promise.all(servers.map((server) => server.masterKeys.rotate()));
      const views = await Promise.all(servers.map((server) => server.masterKeys.versions()));
      for (const view of views) expect(view).toEqual(views[0]);
      const wraps = await Promise.all(servers.map((server) => server.wrap(randomBytes(32), CONTEXT)));
      for (const server of servers) for (const wrap of wraps) await server.unwrap(wrap, CONTEXT);
    }
  });

  describe("a wrong PIN", () => {
    test("is tried once, and named without being shown", async () => {
      const provider = await open({ pin: WRONG_PIN, pause: 0 });
      await expect(provider.health()).rejects.toMatchObject(unavailable("refuses the PIN (CKR_PIN_INCORRECT)"));
      // The right one now: what is remembered is that this one was wrong, and no process is started for it.
      const started = performance.now();
      for (let index = 0; index < 20; index++) {
        const error = (await provider.wrap(randomBytes(32), CONTEXT).catch((reason: unknown) => reason)) as Error;
        expect(error).toMatchObject(unavailable("It is not tried again"));
        expect(`${error.message} ${error.stack ?? ""}`).not.toContain(WRONG_PIN);
        await expect.poll(tokenProcesses).toEqual([]);
      }
      expect(performance.now() - started).toBeLessThan(1_000);
    });

    test("in a file is followed by the next one that is in it", async () => {
      const file = hsm.path("pin");
      await writeFile(file, `${WRONG_PIN}\n`);
      const provider = await open({ query: `&pin-source=file:${file}`, pin: "not used", pause: 0 });
      await expect(provider.health()).rejects.toMatchObject(unavailable("refuses the PIN"));
      await expect(provider.health()).rejects.toMatchObject(unavailable("refuses the PIN"));
      await rename(file, `${file}-away`);
      await expect(provider.health()).rejects.toMatchObject(unavailable("cannot be read"));
      await writeFile(file, `${PIN}\n`);
      await provider.health();
    });
  });

  describe("fails", () => {
    test("unseen when the library crashes", async () => {
      const provider = await open();
      const key = randomBytes(32);
      const wrap = await provider.wrap(key, CONTEXT);
      const [pid = 0] = tokenProcesses();
      process.kill(pid, "SIGSEGV");
      expect(Buffer.from(await provider.unwrap(wrap, CONTEXT))).toEqual(key);
      expect(tokenProcesses()).not.toContain(pid);
    });

    test("unseen when its sessions end and new ones begin", async () => {
      const provider = await open();
      await provider.wrap(randomBytes(32), CONTEXT);
      const [pid = 0] = tokenProcesses();
      hsm.replaceToken("main");
      await provider.wrap(randomBytes(32), CONTEXT);
      expect(tokenProcesses()).not.toContain(pid);
      expect(count()).toBe(1);
    });

    test("by no signal that is meant for the server", async () => {
      const provider = await open();
      const wrap = await provider.wrap(randomBytes(32), CONTEXT);
      const [pid = 0] = tokenProcesses();
      for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.kill(pid, signal);
      await provider.unwrap(wrap, CONTEXT);
      expect(tokenProcesses()).toEqual([pid]);
    });

    test("in bounded time when it hangs, and recovers", async () => {
      const provider = await open({ limit: 2_000, pause: 0 });
      const wrap = await provider.wrap(randomBytes(32), CONTEXT);
      const [pid = 0] = tokenProcesses();
      process.kill(pid, "SIGSTOP");
      const started = performance.now();
      const first = provider.unwrap(wrap, CONTEXT);
      await expect(first).rejects.toMatchObject(unavailable("did not answer in time"));
      expect(performance.now() - started).toBeLessThan(4_000);
      await provider.unwrap(wrap, CONTEXT);
      expect(tokenProcesses()).not.toContain(pid);
    });

    test("fast for a moment once it has failed", async () => {
      const provider = await open({ pause: 1_500 });
      await provider.wrap(randomBytes(32), CONTEXT);
      await hsm.takeAway();
      await expect(provider.health()).rejects.toMatchObject(unavailable("see that it is there"));
      const started = performance.now();
      await Promise.all(
        Array.from({ length: 50 }, () => expect(provider.health()).rejects.toMatchObject({ fault: "unavailable" })),
      );
      expect(performance.now() - started).toBeLessThan(1_000);
      await hsm.bringBack();
      await expect.poll(() => provider.health().then(() => "well", String), { timeout: 5_000 }).toBe("well");
    });

    test("without making a first key when it is away with the keys it has", async () => {
      const provider = await open({ pause: 0 });
      const wrap = await provider.wrap(randomBytes(32), CONTEXT);
      await hsm.takeAway();
      await expect(provider.wrap(randomBytes(32), CONTEXT)).rejects.toMatchObject({ fault: "unavailable" });
      await expect(provider.masterKeys.versions()).rejects.toMatchObject({ fault: "unavailable" });
      await expect(provider.unwrap(wrap, CONTEXT)).rejects.toMatchObject({ fault: "unavailable" });
      await hsm.bringBack();
      await provider.unwrap(wrap, CONTEXT);
      expect(count()).toBe(1);
    });

    test("at no start: the id is known, and a token that is away is told at the first call", async () => {
      await hsm.takeAway();
      const provider = await open({ pause: 0 });
      expect(provider.id).toBe("pkcs11:token=main;object=master");
      await expect(provider.health()).rejects.toMatchObject({ fault: "unavailable" });
      await hsm.bringBack();
      await provider.health();
    });
  });

  describe("is named", () => {
    test("by its label, and by its serial number where two are called the same", async () => {
      const serialOf = () =>
        hsm.byHand("main", ({ cryptoki }) =>
          cryptoki
            .C_GetSlotList(true)
            .map((slot) => cryptoki.C_GetTokenInfo(slot))
            .find(({ label }) => label.trim() === "main")
            ?.serialNumber.trim(),
        );
      const serial = serialOf() ?? "";
      hsm.initToken("main");
      const unclear = await open({ pause: 0 });
      await expect(unclear.health()).rejects.toMatchObject(unavailable("Several tokens are called main"));
      const clear = await open({ object: `master;serial=${serial}` });
      await clear.health();
      expect(clear.id).toBe(unclear.id);
      const none = await open({ object: "master;serial=0000" });
      await expect(none.health()).rejects.toMatchObject(unavailable("no token main with the serial number 0000"));
    });

    test.each([
      [
        "a module that is not there",
        "/nowhere/module.so",
        { TACENDA_PKCS11_PIN: PIN },
        "no PKCS#11 module at /nowhere",
      ],
      ["a module that is none", process.execPath, { TACENDA_PKCS11_PIN: PIN }, "does not load as a PKCS#11 module"],
      ["no PIN", null, {}, "set TACENDA_PKCS11_PIN"],
    ])("at the start, with %s", async (_, module, environment, why) => {
      const uri = `pkcs11:token=main;object=master?module-path=${module ?? hsm.modulePath}`;
      const opening = openKeyProvider(uri, { environment, create: true });
      await expect(opening).rejects.toBeInstanceOf(StartupError);
      await expect(opening).rejects.toThrow(why);
    });

    test("with files for a PIN that are missing or empty", async () => {
      const uri = hsm.uri("main", "master", `&pin-source=file:${hsm.path("pin")}`);
      const opening = () => openKeyProvider(uri, { environment: { TACENDA_PKCS11_PIN: PIN }, create: true });
      await expect(opening()).rejects.toThrow("cannot be read");
      await writeFile(hsm.path("pin"), "\n");
      await expect(opening()).rejects.toThrow("There is no PIN in");
    });
  });

  test("sees nothing of the server's environment but what libraries are configured by", async () => {
    process.env.TACENDA_ROOT_TOKEN = "root-token-of-this-test";
    try {
      await open();
    } finally {
      delete process.env.TACENDA_ROOT_TOKEN;
    }
    const [pid = 0] = tokenProcesses();
    const environment = readFileSync(`/proc/${pid}/environ`, "utf8");
    expect(environment).toContain("SOFTHSM2_CONF=");
    expect(environment).not.toContain("TACENDA_");
  });
});

const MODIFIABLE = 0x170;
const DESTROYABLE = 0x172;
const CKM_GENERIC_SECRET_KEY_GEN = 0x350;
