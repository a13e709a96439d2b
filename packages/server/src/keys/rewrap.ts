/**
 * Brings every wrapped key under the current master key of the active provider: after a rotation of the master key, or a
 * move to another provider. What is left to do stands in the database, so it goes on after a crash at any step.
 * spec/envelope.md § Rotating master keys.
 */

import { timingSafeEqual } from "node:crypto";

import type { GuardedKeyProvider } from "../envelope/guarded-key-provider.js";
import { KeyProviderError, type Wrap, type WrapContext } from "../envelope/key-provider.js";
import type { KeyProviders } from "../envelope/key-providers.js";
import type { KeyDirectory, StoreKey, StoreKeyCursor, WrapChange } from "../storage/key-directory.js";
import type { LeaseRef } from "../storage/leases.js";

/** Keys per commit. */
const STEP_KEYS = 64;
/** Calls to providers at once. */
const CONCURRENCY = 8;

export interface RewrapServices {
  keys: KeyDirectory;
  providers: KeyProviders;
}

/** What became of a look over all keys. */
export interface RewrapResult {
  /** Keys that are now under the current master key and were not before. */
  rewrapped: number;
  /** Keys whose wraps do not open; they stay as they are. */
  refused: number;
  /** Why keys are left that may be wrapped anew later; null when none is. */
  failure: KeyProviderError | null;
}

/**
 * Looks over all keys once. `proceed` is asked before each key with the number of keys rewrapped so far; when it says false
 * the rest is left for later. Nothing is changed unless `lease` is held as it is committed: whoever took it meanwhile may have
 * brought the keys under another master key, and this one may be gone.
 *
 * @throws {KeyProviderError} when the active provider does not say which master key is current.
 */
export async function rewrapOutdated(
  { keys, providers }: RewrapServices,
  lease: LeaseRef,
  proceed: (rewrapped: number) => Promise<boolean>,
): Promise<RewrapResult> {
  const result: RewrapResult = { rewrapped: 0, refused: 0, failure: null };
  const target = await providers.active();
  const masterVersion = await target.currentVersion();
  let cursor: StoreKeyCursor = null;
  for (;;) {
    const outdated = await keys.findOutdated({ provider: target.id, masterVersion }, cursor, STEP_KEYS);
    const last = outdated.at(-1);
    if (last === undefined) return result;
    const batch = new Batch(providers, target, () => proceed(result.rewrapped));
    const changes = await batch.rewrap(outdated);
    result.refused += batch.refused;
    result.failure ??= batch.failure;
    const replaced = await keys.replaceWraps(changes, lease);
    // The master key was retired meanwhile, so there is a newer one, or others are at it: the next look finds what is left.
    if (replaced === null) return result;
    result.rewrapped += replaced;
    if (batch.isEnded) return result;
    cursor = last;
  }
}

/** Some keys that are wrapped anew at once. Whatever becomes of one of them, the others are done. */
class Batch {
  refused = 0;
  /** Of a provider, the first. */
  failure: KeyProviderError | null = null;
  /** Nothing more can be done now: it was stopped, or the target fails. */
  isEnded = false;
  readonly #providers: KeyProviders;
  readonly #target: GuardedKeyProvider;
  readonly #proceed: () => Promise<boolean>;

  constructor(providers: KeyProviders, target: GuardedKeyProvider, proceed: () => Promise<boolean>) {
    this.#providers = providers;
    this.#target = target;
    this.#proceed = proceed;
  }

  async rewrap(keys: readonly StoreKey[]): Promise<WrapChange[]> {
    const changes: WrapChange[] = [];
    const waiting = [...keys];
    const work = async () => {
      for (let key = waiting.shift(); key !== undefined && !this.isEnded; key = waiting.shift()) {
        if (!(await this.#proceed())) {
          this.isEnded = true;
          return;
        }
        const change = await this.#rewrapOne(key);
        if (change !== null) changes.push(change);
      }
    };
    await Promise.all(Array.from({ length: CONCURRENCY }, work));
    return changes;
  }

  /** Null when it stays as it is. */
  async #rewrapOne(key: StoreKey): Promise<WrapChange | null> {
    const { project, store, purpose, version } = key;
    const context: WrapContext = { project, store, purpose, version };
    const before = await this.#open(key, context);
    if (before === null) return null;
    const target = this.#target;
    try {
      const isOwn = key.provider === target.id;
      const wrap = isOwn ? await target.rewrap(key, context) : await target.wrap(Uint8Array.from(before), context);
      await verify(target, wrap, context, before);
      return { key, wrap: { provider: target.id, ...wrap } };
    } catch (error) {
      if (!(error instanceof KeyProviderError)) throw error;
      // It fails with the others as well.
      this.failure ??= error;
      this.isEnded = true;
      return null;
    } finally {
      before.fill(0);
    }
  }

  async #open(key: StoreKey, context: WrapContext): Promise<Uint8Array | null> {
    try {
      return await this.#providers.require(key.provider).unwrap(key, context);
    } catch (error) {
      if (!(error instanceof KeyProviderError)) throw error;
      if (error.fault === "refused") this.refused++;
      else this.failure ??= error;
      return null;
    }
  }
}

/** The old wrap is given up only for one that has been seen to hold the same key. */
async function verify(
  target: GuardedKeyProvider,
  wrap: Wrap,
  context: WrapContext,
  expected: Uint8Array,
): Promise<void> {
  const found = await target.unwrap(wrap, context);
  const isSame = found.length === expected.length && timingSafeEqual(found, expected);
  found.fill(0);
  if (isSame) return;
  throw new KeyProviderError(
    "unavailable",
    `The key provider ${target.id} gave back another key than it was given to wrap. Nothing was changed: check it.`,
  );
}
