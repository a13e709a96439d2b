/** Unwraps and caches the keys of stores, and makes those of new ones; spec/envelope.md § Store keys. */

import { createSecretKey, randomBytes, type KeyObject } from "node:crypto";

import { LRUCache } from "lru-cache";

import type { KeyDirectory } from "../storage/key-directory.js";
import { StorageError } from "../storage/record-store.js";
import type { KeyPurpose, WrappedKey } from "../storage/store-key.js";
import type { Destructions } from "./destructions.js";
import { KeyProviderError } from "./key-provider.js";
import type { KeyProviders } from "./key-providers.js";
import { OpenStore } from "./open-store.js";
import { DataKey, SubkeyPool } from "./subkeys.js";

/** Bytes of an index key and of a data key. */
const STORE_KEY_BYTES = 32;

/** How long a refusal of a store's keys is told again without asking, in milliseconds. */
const REST_MILLISECONDS = 1_000;
/** How long a read waits for keys to be loaded anew when it could go on with the old ones, in milliseconds. */
const PATIENCE_MILLISECONDS = 250;

export interface StoreKeysOptions {
  directory: Pick<KeyDirectory, "wrappedKeys">;
  providers: KeyProviders;
  /** Tells what other servers on the database have destroyed; none by default. */
  destructions?: Pick<Destructions, "latest">;
  /** Stores whose keys are kept unwrapped at once. */
  maxStores?: number;
  /** Milliseconds for which unwrapped keys are used before they are loaded again. */
  ttl?: number;
  /** Milliseconds after that for which reads go on with them while they cannot be loaded. */
  grace?: number;
  /** Clock of the cache, in milliseconds. */
  now?: () => number;
  /** Bodies sealed under one subkey, and subkeys kept for reading. */
  sealsPerSalt?: number;
  maxSubkeys?: number;
}

export const DEFAULT_KEY_TTL = 300_000;
export const DEFAULT_KEY_GRACE = 900_000;

interface Entry {
  /** Under way, and shared by all who ask meanwhile. */
  loading: Promise<OpenStore | null> | null;
  opened: OpenStore | null;
  /** When `opened` was loaded, and from which keys. */
  openedAt: number;
  openedFrom: string;
  /** The destructions that were known when the database was last seen to have these keys, and a look whether it still has. */
  seenAfter: string | null;
  seeing: Promise<Sight> | null;
  /** The last failure since, which is told again for a moment. */
  failure: { error: KeyProviderError; at: number } | null;
  /** A look for changes that has begun, and the one that follows it. */
  looking: Promise<OpenStore | null> | null;
  lookingNext: Promise<OpenStore | null> | null;
}

type Sight = "same" | "changed" | "gone";

/** What keys are needed for: reads may go on for a while with keys that cannot be loaded again. */
export type KeyUse = "read" | "write";

export class StoreKeys {
  readonly #directory: Pick<KeyDirectory, "wrappedKeys">;
  readonly #providers: KeyProviders;
  readonly #pool: SubkeyPool;
  readonly #ttl: number;
  readonly #grace: number;
  readonly #destructions: Pick<Destructions, "latest">;
  readonly #now: () => number;
  readonly #cache: LRUCache<string, Entry>;

  constructor(options: StoreKeysOptions) {
    this.#directory = options.directory;
    this.#providers = options.providers;
    this.#pool = new SubkeyPool(options);
    this.#destructions = options.destructions ?? { latest: () => null };
    this.#ttl = options.ttl ?? DEFAULT_KEY_TTL;
    this.#grace = options.grace ?? DEFAULT_KEY_GRACE;
    // Not the system's clock: it may be set back, and would keep keys for as long.
    this.#now = options.now ?? (() => performance.now());
    this.#cache = new LRUCache({ max: options.maxStores ?? 10_000 });
  }

  /**
   * Fresh random keys for a new store, wrapped: what `Directory.createStore` takes. `now`: milliseconds since the epoch.
   * @throws {KeyProviderError}
   */
  async createKeys(project: string, store: string, now: number): Promise<WrappedKey[]> {
    return Promise.all([this.#createKey(project, store, "index", 1, now), this.createDataKey(project, store, 1, now)]);
  }

  /** A fresh random data key, wrapped. `now`: milliseconds since the epoch. @throws {KeyProviderError} */
  async createDataKey(project: string, store: string, version: number, now: number): Promise<WrappedKey> {
    return await this.#createKey(project, store, "data", version, now);
  }

  /**
   * The store's keys, from the cache or unwrapped now; null when the store has none. Those whose time is over are loaded
   * again; while that fails or takes long, reads go on with them for the time of grace.
   * @throws {KeyProviderError} when the provider fails, or the keys were wrapped by another one.
   * @throws {StorageError} when the directory fails, or lacks some of the store's keys.
   */
  async open(project: string, store: string, use: KeyUse = "write"): Promise<OpenStore | null> {
    const entry = this.#entry(project, store);
    const age = this.#now() - entry.openedAt;
    const { opened } = entry;
    if (opened !== null) {
      const latest = this.#destructions.latest();
      const seen = latest === entry.seenAfter ? "same" : await this.#see(entry, await latest, project, store);
      if (seen === "gone") {
        this.#drop(entry, project, store);
        return null;
      }
      if (seen === "same" && age <= this.#ttl) return opened;
    }
    const { failure } = entry;
    const mayGoOn = use === "read" && opened !== null && age <= this.#ttl + this.#grace;
    if (failure !== null && this.#now() - failure.at < REST_MILLISECONDS) {
      if (mayGoOn) return opened;
      throw failure.error;
    }
    const loading = this.#loadInto(entry, project, store);
    if (!mayGoOn) return await loading;
    try {
      return await Promise.race([loading, after(PATIENCE_MILLISECONDS, opened)]);
    } catch (error) {
      if (error instanceof KeyProviderError) return opened;
      throw error;
    }
  }

  /** What became of the keys that were loaded. The database is asked when some store was destroyed since they were seen there. */
  async #see(entry: Entry, destructions: string | null, project: string, store: string): Promise<Sight> {
    const look = async (): Promise<Sight> => {
      const keys = await this.#directory.wrappedKeys(project, store);
      if (keys.length === 0) return "gone";
      if (fingerprint(keys) !== entry.openedFrom) return "changed";
      entry.seenAfter = destructions;
      return "same";
    };
    while (entry.seenAfter !== destructions) {
      const underWay = entry.seeing;
      if (underWay === null) return await (entry.seeing = look().finally(() => (entry.seeing = null)));
      // It may have begun before the destruction.
      const seen = await underWay;
      if (seen !== "same") return seen;
    }
    return "same";
  }

  /**
   * The keys of who found that `stale` lacks some, or has some too many: what the cache has got since, or else what is loaded if
   * the database has other keys than `stale` was loaded from. While it has not, this asks no provider.
   * @throws as `open`
   */
  async reload(project: string, store: string, stale: OpenStore): Promise<OpenStore | null> {
    const entry = this.#entry(project, store);
    if (entry.opened !== null && entry.opened !== stale) return entry.opened;
    if (entry.looking === null) return await this.#beginLook(entry, project, store);
    // It may have begun before the change.
    entry.lookingNext ??= entry.looking
      .catch(() => undefined)
      .then(() => {
        entry.lookingNext = null;
        return this.#beginLook(entry, project, store);
      });
    return await entry.lookingNext;
  }

  #beginLook(entry: Entry, project: string, store: string): Promise<OpenStore | null> {
    entry.looking = this.#look(entry, project, store).finally(() => (entry.looking = null));
    return entry.looking;
  }

  async #look(entry: Entry, project: string, store: string): Promise<OpenStore | null> {
    await entry.loading?.catch(() => undefined);
    const found = fingerprint(await this.#directory.wrappedKeys(project, store));
    if (entry.opened !== null && entry.openedFrom === found) return entry.opened;
    return await this.#loadInto(entry, project, store);
  }

  /** Drops the keys of a store that was destroyed. */
  forget(project: string, store: string): void {
    this.#cache.delete(`${project}/${store}`);
  }

  /** Drops the keys of all stores of a project that was destroyed, whichever stores those were. */
  forgetProject(project: string): void {
    for (const place of [...this.#cache.keys()]) {
      if (place.startsWith(`${project}/`)) this.#cache.delete(place);
    }
  }

  #entry(project: string, store: string): Entry {
    const place = `${project}/${store}`;
    let entry = this.#cache.get(place);
    if (entry === undefined) {
      entry = {
        ...{ loading: null, opened: null, openedAt: -Infinity, openedFrom: "", seenAfter: null, failure: null },
        seeing: null,
        ...{ looking: null, lookingNext: null },
      };
      this.#cache.set(place, entry);
    }
    return entry;
  }

  #loadInto(entry: Entry, project: string, store: string): Promise<OpenStore | null> {
    if (entry.loading !== null) return entry.loading;
    entry.loading = this.#load(project, store, entry.opened).then(
      ([opened, openedFrom, seenAfter]) => {
        Object.assign(entry, { loading: null, opened, openedAt: this.#now(), openedFrom, seenAfter, failure: null });
        if (opened === null) this.#drop(entry, project, store);
        return opened;
      },
      (error: unknown) => {
        entry.loading = null;
        if (error instanceof KeyProviderError) entry.failure = { error, at: this.#now() };
        else if (entry.opened === null) this.#drop(entry, project, store);
        throw error;
      },
    );
    return entry.loading;
  }

  #drop(entry: Entry, project: string, store: string): void {
    const place = `${project}/${store}`;
    if (this.#cache.peek(place) === entry) this.#cache.delete(place);
  }

  async #createKey(
    project: string,
    store: string,
    purpose: KeyPurpose,
    version: number,
    createdAt: number,
  ): Promise<WrappedKey> {
    const provider = await this.#providers.active();
    const key = randomBytes(STORE_KEY_BYTES);
    try {
      const wrap = await provider.wrap(key, { project, store, purpose, version });
      return { purpose, version, state: "active", provider: provider.id, ...wrap, createdAt };
    } finally {
      key.fill(0);
    }
  }

  /** The keys, which they were loaded from, and the destructions known before that. */
  async #load(
    project: string,
    store: string,
    expired: OpenStore | null,
  ): Promise<[opened: OpenStore | null, from: string, seenAfter: string | null]> {
    const seenAfter = await this.#destructions.latest();
    const wrappedKeys = await this.#directory.wrappedKeys(project, store);
    const from = fingerprint(wrappedKeys);
    if (wrappedKeys.length === 0) return [null, from, seenAfter];
    const tried = await Promise.all(
      wrappedKeys.map(async (wrapped) => ({ wrapped, key: await this.#unwrapIfNeeded(project, store, wrapped) })),
    );
    const keys = tried.flatMap(({ wrapped, key }) => (key === null ? [] : [{ wrapped, key }]));
    const indexKey = keys.find(({ wrapped }) => wrapped.purpose === "index")?.key;
    const dataKeys = keys
      .filter(({ wrapped }) => wrapped.purpose === "data")
      .sort((a, b) => b.wrapped.version - a.wrapped.version)
      .map(({ wrapped, key }) => ({ wrapped, dataKey: this.#dataKey(wrapped.version, key, expired) }));
    const current = dataKeys.find(({ wrapped }) => wrapped.state === "active")?.dataKey;
    if (indexKey === undefined || current === undefined) {
      throw new StorageError("A store's keys are incomplete in the database: restore the database from a backup.");
    }
    const lost = new Set(tried.flatMap(({ wrapped, key }) => (key === null ? [wrapped.version] : [])));
    const opened = new OpenStore(
      { project, store },
      { indexKey, dataKeys: dataKeys.map(({ dataKey }) => dataKey), current, lost },
    );
    return [opened, from, seenAfter];
  }

  /** Null for a retired data key that does not open: only what is still under it is lost, not the store. */
  async #unwrapIfNeeded(project: string, store: string, wrapped: WrappedKey): Promise<KeyObject | null> {
    try {
      return await this.#unwrap(project, store, wrapped);
    } catch (error) {
      const isSpare = wrapped.purpose !== "index" && wrapped.state !== "active";
      if (isSpare && error instanceof KeyProviderError && error.fault === "refused") return null;
      throw error;
    }
  }

  async #unwrap(project: string, store: string, wrapped: WrappedKey): Promise<KeyObject> {
    const { purpose, version } = wrapped;
    const provider = this.#providers.require(wrapped.provider);
    const key = await provider.unwrap(wrapped, { project, store, purpose, version });
    if (key.length !== STORE_KEY_BYTES) {
      throw new KeyProviderError("refused", `Key provider ${wrapped.provider} gave back a key of a wrong length.`);
    }
    try {
      return createSecretKey(key);
    } finally {
      key.fill(0);
    }
  }

  /** The data key that was in use before the cache's time ran out, if it is the same, else a new one. */
  #dataKey(version: number, key: KeyObject, expired: OpenStore | null): DataKey {
    const before = expired?.dataKey(version);
    return before?.equals(version, key) === true ? before : new DataKey(version, key, this.#pool);
  }
}

/** Tells one set of a store's keys from another, whichever master keys they are wrapped under. */
function fingerprint(keys: readonly WrappedKey[]): string {
  return keys.map(({ purpose, version, state }) => `${purpose} ${version} ${state}`).join();
}

function after<T>(milliseconds: number, value: T): Promise<T> {
  return new Promise((resolve) => setTimeout(() => resolve(value), milliseconds).unref());
}
