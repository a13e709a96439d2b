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
}

/**
 * Looks over all keys once. `proceed` is asked before each step with the number of keys rewrapped so far; when it says false
 * the rest is left for later.
 *
 * @throws {KeyProviderError} `unavailable` when a provider cannot be used; what was committed stays.
 */
export async function rewrapOutdated(
  { keys, providers }: RewrapServices,
  proceed: (rewrapped: number) => Promise<boolean>,
): Promise<RewrapResult> {
  const result: RewrapResult = { rewrapped: 0, refused: 0 };
  const target = await providers.active();
  const masterVersion = await target.currentVersion();
  let cursor: StoreKeyCursor = null;
  for (;;) {
    const outdated = await keys.findOutdated({ provider: target.id, masterVersion }, cursor, STEP_KEYS);
    const last = outdated.at(-1);
    if (last === undefined || !(await proceed(result.rewrapped))) return result;
    const changes = (await inParallel(outdated, (key) => rewrap(key, providers, target))).filter((one) => one !== null);
    result.refused += outdated.length - changes.length;
    const replaced = await keys.replaceWraps(changes);
    // The master key was retired meanwhile, so there is a newer one: the next look finds these again.
    if (replaced === null) return result;
    result.rewrapped += replaced;
    cursor = last;
  }
}

/** The change for one key; null when its wrap does not open. */
async function rewrap(key: StoreKey, providers: KeyProviders, target: GuardedKeyProvider): Promise<WrapChange | null> {
  const { project, store, purpose, version } = key;
  const context: WrapContext = { project, store, purpose, version };
  try {
    const source = providers.require(key.provider);
    const before = await source.unwrap(key, context);
    try {
      const wrap = source === target ? await target.rewrap(key, context) : await target.wrap(before, context);
      await verify(target, wrap, context, before);
      return { key, wrap: { provider: target.id, ...wrap } };
    } finally {
      before.fill(0);
    }
  } catch (error) {
    if (error instanceof KeyProviderError && error.fault === "refused") return null;
    throw error;
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

async function inParallel<Item, Result>(
  items: readonly Item[],
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  let next = 0;
  const run = async () => {
    for (let index = next++; index < items.length; index = next++) {
      const item = items[index];
      if (item !== undefined) results[index] = await work(item);
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, run));
  return results;
}
