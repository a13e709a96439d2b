/** The one suite that every key provider must pass; envelope/key-provider.ts says what each call promises. */

import { randomBytes } from "node:crypto";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { GuardedKeyProvider } from "../../../src/envelope/guarded-key-provider.js";
import {
  KeyProviderError,
  type KeyProvider,
  type MasterKeys,
  type Wrap,
  type WrapContext,
} from "../../../src/envelope/key-provider.js";

/** A provider's key as tests use it, with what stands behind it. */
export interface ProviderHarness {
  /** A fresh instance on the harness's own key; each is closed by whoever opened it. */
  open(): Promise<KeyProvider>;
  /** An instance on another key of the same kind. */
  openOther(): Promise<KeyProvider>;
  /** Makes everything behind the provider unreachable, and reachable again; for contracts with an `outageLimit`. */
  outage?: { begin(): Promise<void>; end(): Promise<void> };
  remove(): Promise<void>;
}

const CONTEXT: WrapContext = { project: "default", store: "user-tokens", purpose: "data", version: 1 };

const OTHER_CONTEXTS: readonly WrapContext[] = [
  { ...CONTEXT, project: "other" },
  { ...CONTEXT, store: "user-token" },
  { ...CONTEXT, purpose: "index" },
  { ...CONTEXT, version: 2 },
  // The same letters, divided otherwise.
  { ...CONTEXT, project: "defaultuser", store: "-tokens" },
];

/** What `work` is refused with. */
async function failure(work: Promise<unknown>): Promise<KeyProviderError> {
  const error: unknown = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(KeyProviderError);
  return error as KeyProviderError;
}

async function expectRefused(work: Promise<unknown>): Promise<void> {
  expect((await failure(work)).fault).toBe("refused");
}

/** Retires, or destroys, what is below `version` and not yet so, from the lowest on. */
async function first(masterKeys: MasterKeys, what: "retire" | "destroy", version: number): Promise<void> {
  for (const { version: earlier, state } of await masterKeys.versions()) {
    const isDone = state === "destroyed" || (what === "retire" && state === "retired");
    if (earlier < version && !isDone) await masterKeys[what]?.(earlier);
  }
}

/**
 * Runs the contract on one key from `create`. `outageLimit`: milliseconds within which an outage must be told, and be over
 * after its end; without it nothing stands behind the provider that could fail, or nobody can make it. `retiresInOrder`: a
 * version is retired and destroyed only after every earlier one.
 */
export function providerContract(
  name: string,
  create: () => Promise<ProviderHarness>,
  { outageLimit, retiresInOrder = false }: { outageLimit?: number; retiresInOrder?: boolean } = {},
): void {
  describe(`key provider contract on ${name}`, () => {
    let harness: ProviderHarness;
    let provider: KeyProvider;
    /** As the server uses it, but without rests after failures. */
    const open = async () => new GuardedKeyProvider(await harness.open(), { rest: 0 });

    beforeAll(async () => {
      harness = await create();
      provider = await open();
    });
    afterAll(async () => {
      await provider.close();
      await harness.remove();
    });

    const wrapFresh = async () => {
      const key = new Uint8Array(randomBytes(32));
      return { key, wrap: await provider.wrap(key.slice(), CONTEXT) };
    };
    const expectOpens = async (by: KeyProvider, wrap: Wrap, key: Uint8Array) => {
      expect(Buffer.from(await by.unwrap(wrap, CONTEXT)).equals(key)).toBe(true);
    };

    test("gives back what it wrapped, here and in another instance of the same id", async () => {
      const { key, wrap } = await wrapFresh();
      await expectOpens(provider, wrap, key);
      const again = await open();
      expect(again.id).toBe(provider.id);
      expect(again.id.length).toBeLessThanOrEqual(512);
      await expectOpens(again, wrap, key);
      await again.close();
    });

    test("says that it is healthy, and names the current version as wraps do", async () => {
      await provider.health();
      const { wrap } = await wrapFresh();
      expect(wrap.masterVersion).toBe(await provider.currentVersion());
      expect(Number.isSafeInteger(wrap.masterVersion) && wrap.masterVersion >= 1).toBe(true);
    });

    test("wraps the same key differently each time, and never holds it in plain", async () => {
      const key = new Uint8Array(randomBytes(32));
      const wraps = [await provider.wrap(key, CONTEXT), await provider.wrap(key, CONTEXT)];
      expect(wraps[0]?.wrapped).not.toEqual(wraps[1]?.wrapped);
      for (const { wrapped } of wraps) expect(Buffer.from(wrapped).includes(Buffer.from(key))).toBe(false);
    });

    test("what it gives back is the caller's to overwrite", async () => {
      const { key, wrap } = await wrapFresh();
      (await provider.unwrap(wrap, CONTEXT)).fill(0);
      await expectOpens(provider, wrap, key);
    });

    test.each(OTHER_CONTEXTS)("opens for no other context: $project/$store $purpose $version", async (context) => {
      const { wrap } = await wrapFresh();
      await expectRefused(provider.unwrap(wrap, context));
      if (provider.rewrap) await expectRefused(provider.rewrap(wrap, context));
    });

    test("refuses a wrap with any byte flipped, cut short, empty or prolonged", async () => {
      const { wrap } = await wrapFresh();
      const step = Math.max(1, Math.floor(wrap.wrapped.length / 70));
      for (let place = 0; place < wrap.wrapped.length; place += step) {
        const wrapped = Uint8Array.from(wrap.wrapped);
        wrapped[place] = (wrapped[place] ?? 0) ^ 0x04;
        await expectRefused(provider.unwrap({ ...wrap, wrapped }, CONTEXT));
      }
      for (const wrapped of [wrap.wrapped.slice(0, -1), new Uint8Array(0), Uint8Array.from([...wrap.wrapped, 0])]) {
        await expectRefused(provider.unwrap({ ...wrap, wrapped }, CONTEXT));
      }
    });

    test("refuses a wrap that is said to be of another master-key version", async () => {
      const { wrap } = await wrapFresh();
      await expectRefused(provider.unwrap({ ...wrap, masterVersion: wrap.masterVersion + 1 }, CONTEXT));
    });

    test("refuses what another key wrapped", async () => {
      const other = await harness.openOther();
      expect(other.id).not.toBe(provider.id);
      const { key, wrap } = await wrapFresh();
      await expectRefused(other.unwrap(wrap, CONTEXT));
      await expectRefused(provider.unwrap(await other.wrap(key, CONTEXT), CONTEXT));
      await other.close();
    });

    test.each([0, 16, 31, 33, 64])("wraps no key of %i bytes", async (length) => {
      await expectRefused(provider.wrap(new Uint8Array(length), CONTEXT));
    });

    test("serves many at once", async () => {
      const pairs = await Promise.all(Array.from({ length: 40 }, wrapFresh));
      await Promise.all(pairs.map(({ key, wrap }) => expectOpens(provider, wrap, key)));
    });

    test("no message tells a key", async () => {
      const { key, wrap } = await wrapFresh();
      const { message, stack, cause } = await failure(provider.unwrap(wrap, { ...CONTEXT, store: "another" }));
      const shown = `${message} ${stack ?? ""} ${String(cause)}`;
      for (const encoding of ["hex", "base64", "base64url"] as const) {
        expect(shown).not.toContain(Buffer.from(key).toString(encoding).slice(0, 16));
      }
    });

    if (outageLimit !== undefined) {
      test("an outage is told as such within bounded time, and ends by itself", async () => {
        const { outage } = harness;
        if (!outage) throw new Error("This harness can make no outage.");
        const { key, wrap } = await wrapFresh();
        await outage.begin();
        try {
          const started = performance.now();
          const calls = [provider.unwrap(wrap, CONTEXT), provider.wrap(key.slice(), CONTEXT), provider.health()];
          for (const error of await Promise.all(calls.map(failure))) expect(error.fault).toBe("unavailable");
          expect(performance.now() - started).toBeLessThan(outageLimit);
        } finally {
          await outage.end();
        }
        const isBack = () =>
          provider.health().then(
            () => true,
            () => false,
          );
        await expect.poll(isBack, { timeout: outageLimit, interval: 100 }).toBe(true);
        await expectOpens(provider, wrap, key);
      });
    }

    describe("master keys", () => {
      test("rotating makes a new version current; what earlier ones wrapped still opens, and is wrapped anew", async () => {
        const { masterKeys } = provider;
        if (!masterKeys) return;
        const { key, wrap: before } = await wrapFresh();
        const version = await masterKeys.rotate();
        expect(version).toBeGreaterThan(before.masterVersion);
        expect(await provider.currentVersion()).toBe(version);
        await expectOpens(provider, before, key);
        const { wrap } = await wrapFresh();
        expect(wrap.masterVersion).toBe(version);
        if (provider.rewrap) {
          const renewed = await provider.rewrap(before, CONTEXT);
          expect(renewed.masterVersion).toBe(version);
          expect(renewed.wrapped).not.toEqual(before.wrapped);
          await expectOpens(provider, renewed, key);
        }
        const states = new Map((await masterKeys.versions()).map((one) => [one.version, one.state]));
        expect(states.get(before.masterVersion)).toBe("enabled");
        expect(states.get(version)).toBe("enabled");
        const another = await open();
        expect(await another.currentVersion()).toBe(version);
        await expectOpens(another, before, key);
        await another.close();
      });

      test("a retired version opens nothing and is named, until it is reinstated", async () => {
        const { masterKeys } = provider;
        if (!masterKeys?.retire) {
          if (masterKeys) expect(masterKeys.instead).toMatch(/\.$/);
          return;
        }
        const { key, wrap } = await wrapFresh();
        await masterKeys.rotate();
        if (retiresInOrder) await first(masterKeys, "retire", wrap.masterVersion);
        for (let repeat = 0; repeat < 2; repeat++) await masterKeys.retire(wrap.masterVersion);
        const error = await failure(provider.unwrap(wrap, CONTEXT));
        expect(error.fault).toBe("refused");
        expect(error.message).toMatch(new RegExp(`version ${wrap.masterVersion}\\b.*retired`));
        const known = (await masterKeys.versions()).find(({ version }) => version === wrap.masterVersion);
        expect(known?.state).toBe("retired");
        for (let repeat = 0; repeat < 2; repeat++) await masterKeys.reinstate?.(wrap.masterVersion);
        await expectOpens(provider, wrap, key);
      });

      test("the current version is not retired", async () => {
        const { masterKeys } = provider;
        if (!masterKeys?.retire) return;
        await expectRefused(masterKeys.retire(await provider.currentVersion()));
        await wrapFresh();
      });

      test("only a retired version is destroyed, and that for good", async () => {
        const { masterKeys } = provider;
        if (!masterKeys?.destroy || !masterKeys.retire) return;
        const { wrap } = await wrapFresh();
        await masterKeys.rotate();
        await expectRefused(masterKeys.destroy(wrap.masterVersion));
        if (retiresInOrder) await first(masterKeys, "retire", wrap.masterVersion);
        await masterKeys.retire(wrap.masterVersion);
        if (retiresInOrder) await first(masterKeys, "destroy", wrap.masterVersion);
        for (let repeat = 0; repeat < 2; repeat++) await masterKeys.destroy(wrap.masterVersion);
        await expectRefused(provider.unwrap(wrap, CONTEXT));
        if (masterKeys.reinstate) await expectRefused(masterKeys.reinstate(wrap.masterVersion));
        const left = (await masterKeys.versions()).find(({ version }) => version === wrap.masterVersion);
        expect(left?.state ?? "destroyed").toBe("destroyed");
        await wrapFresh();
      });
    });
  });
}
