/** Unwraps and caches the keys of stores, and makes those of new ones; spec/envelope.md § Store keys. */

import { createSecretKey, randomBytes, type KeyObject } from "node:crypto";

import { LRUCache } from "lru-cache";

import type { Directory, KeyPurpose, WrappedKey } from "../storage/directory.js";
import { StorageError } from "../storage/record-store.js";
import { KeyProviderError, type KeyProvider } from "./key-provider.js";
import { OpenStore } from "./open-store.js";
import { DataKey, SubkeyPool } from "./subkeys.js";

/** Bytes of an index key and of a data key. */
const STORE_KEY_BYTES = 32;

export interface StoreKeysOptions {
  directory: Pick<Directory, "wrappedKeys">;
  provider: KeyProvider;
  /** Stores whose keys are kept unwrapped at once. */
  maxStores?: number;
  /** Milliseconds for which unwrapped keys are used before they are loaded again. */
  ttl?: number;
  /** Clock of the cache, in milliseconds. */
  now?: () => number;
  /** Bodies sealed under one subkey, and subkeys kept for reading. */
  sealsPerSalt?: number;
  maxSubkeys?: number;
}

interface Entry {
  /** Shared by all who ask while it is under way, and after. */
  loading: Promise<OpenStore | null>;
  opened: OpenStore | null;
}

export class StoreKeys {
  readonly #directory: Pick<Directory, "wrappedKeys">;
  readonly #provider: KeyProvider;
  readonly #pool: SubkeyPool;
  readonly #cache: LRUCache<string, Entry>;

  constructor(options: StoreKeysOptions) {
    this.#directory = options.directory;
    this.#provider = options.provider;
    this.#pool = new SubkeyPool(options);
    this.#cache = new LRUCache({
      max: options.maxStores ?? 10_000,
      ttl: options.ttl ?? 300_000,
      ttlResolution: 0,
      // What has run out stays until it is replaced, so that its data keys can keep their salts; only `open` minds.
      allowStale: true,
      noDeleteOnStaleGet: true,
      ...(options.now && { perf: { now: options.now } }),
    });
  }

  /**
   * Fresh random keys for a new store, wrapped: what `Directory.createStore` takes.
   * @throws {KeyProviderError}
   */
  async createKeys(project: string, store: string): Promise<WrappedKey[]> {
    return Promise.all([this.#createKey(project, store, "index"), this.#createKey(project, store, "data")]);
  }

  /**
   * The store's keys, from the cache or unwrapped now; null when the store has none. A failure is not remembered.
   * @throws {KeyProviderError} when the provider fails, or the keys were wrapped by another one.
   * @throws {StorageError} when the directory fails, or lacks some of the store's keys.
   */
  open(project: string, store: string): Promise<OpenStore | null> {
    const place = `${project}/${store}`;
    const cached = this.#cache.get(place, { allowStale: false });
    if (cached !== undefined) return cached.loading;

    const expired = this.#cache.peek(place)?.opened ?? null;
    const entry: Entry = { loading: this.#load(project, store, expired), opened: null };
    this.#cache.set(place, entry);
    const drop = () => {
      if (this.#cache.peek(place) === entry) this.#cache.delete(place);
    };
    entry.loading.then((opened) => {
      entry.opened = opened;
      if (opened === null) drop();
    }, drop);
    return entry.loading;
  }

  /** Makes the next `open` load the keys again; only if `stale` is still what the cache holds, when it is given. */
  forget(project: string, store: string, stale?: OpenStore): void {
    const place = `${project}/${store}`;
    const entry = this.#cache.peek(place);
    if (stale === undefined || entry?.opened === stale) this.#cache.delete(place);
  }

  /** Drops the keys of all stores of a project that was destroyed, whichever stores those were. */
  forgetProject(project: string): void {
    for (const place of [...this.#cache.keys()]) {
      if (place.startsWith(`${project}/`)) this.#cache.delete(place);
    }
  }

  async #createKey(project: string, store: string, purpose: KeyPurpose): Promise<WrappedKey> {
    const key = randomBytes(STORE_KEY_BYTES);
    try {
      const wrap = await this.#provider.wrap(key, { project, store, purpose, version: 1 });
      return { purpose, version: 1, state: "active", provider: this.#provider.id, ...wrap };
    } finally {
      key.fill(0);
    }
  }

  async #load(project: string, store: string, expired: OpenStore | null): Promise<OpenStore | null> {
    const wrappedKeys = await this.#directory.wrappedKeys(project, store);
    if (wrappedKeys.length === 0) return null;
    const keys = await Promise.all(
      wrappedKeys.map(async (wrapped) => ({ wrapped, key: await this.#unwrap(project, store, wrapped) })),
    );
    const indexKey = keys.find(({ wrapped }) => wrapped.purpose === "index")?.key;
    const dataKeys = keys
      .filter(({ wrapped }) => wrapped.purpose === "data")
      .sort((a, b) => b.wrapped.version - a.wrapped.version)
      .map(({ wrapped, key }) => ({ wrapped, dataKey: this.#dataKey(wrapped.version, key, expired) }));
    const current = dataKeys.find(({ wrapped }) => wrapped.state === "active")?.dataKey;
    if (indexKey === undefined || current === undefined) {
      throw new StorageError("A store's keys are incomplete in the database: restore the database from a backup.");
    }
    return new OpenStore({ project, store }, { indexKey, dataKeys: dataKeys.map(({ dataKey }) => dataKey), current });
  }

  async #unwrap(project: string, store: string, wrapped: WrappedKey): Promise<KeyObject> {
    if (wrapped.provider !== this.#provider.id) {
      throw new KeyProviderError(
        "refused",
        `A store's keys are wrapped by key provider ${wrapped.provider}, but this server runs with ` +
          `${this.#provider.id}: start it with the provider (or keyring file) that made them.`,
      );
    }
    const { purpose, version } = wrapped;
    const key = await this.#provider.unwrap(wrapped, { project, store, purpose, version });
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
