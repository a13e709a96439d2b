/** Derives each key once: overlapping calls share one derivation, later ones find it in a bounded cache. */

import { Limiter } from "./concurrency.js";
import {
  type DerivationScope,
  type RecordKeys,
  type Stretch,
  deriveKeyRoot,
  deriveStoreRoot,
  keyRootOfStore,
  recordKeys,
  secretCheck,
} from "./crypto/derive.js";
import { utf8 } from "./crypto/bytes.js";
import { ConfigurationError } from "./errors.js";
import { LruMap } from "./lru-map.js";
import { Secret } from "./secret.js";

/** Everything a key's derivation depends on besides the key itself. */
export interface KeySource extends DerivationScope {
  secret: Secret;
  stretch: Stretch;
}

/** Store roots are few; they are kept apart so that many keys do not push them out. */
const MAX_STORE_ROOTS = 1_000;

/** Held by one client. What it holds can open records: it lives in memory only and is emptied by `clear`. */
export class KeyCache {
  readonly #keys: LruMap<string, RecordKeys>;
  readonly #storeRoots: LruMap<string, Promise<Uint8Array>>;
  readonly #limiter: Limiter;
  #underWay = new Map<string, Promise<RecordKeys>>();

  /** `capacity` keys are kept (0 for none); at most `concurrency` derivations run at once. */
  constructor(capacity: number, concurrency: number) {
    this.#keys = new LruMap(capacity);
    this.#storeRoots = new LruMap(capacity === 0 ? 0 : MAX_STORE_ROOTS);
    this.#limiter = new Limiter(concurrency);
  }

  /** The record keys of a logical key; at once when they are known. `key` has been checked. */
  recordKeys(source: KeySource, key: string): RecordKeys | Promise<RecordKeys> {
    const id = `${sourceId(source)}/${key}`;
    const known = this.#keys.get(id) ?? this.#underWay.get(id);
    if (known !== undefined) return known;
    const underWay = this.#underWay;
    const derived = this.#derive(source, utf8(key))
      .then((keys) => {
        // Not after `clear`.
        if (underWay === this.#underWay) this.#keys.set(id, keys);
        return keys;
      })
      .finally(() => underWay.delete(id));
    underWay.set(id, derived);
    return derived;
  }

  /** 32 bytes by which a server can tell that two clients have the same secret. */
  async secretCheck(source: KeySource): Promise<Uint8Array> {
    return secretCheck(await this.#storeRoot(source), source.stretch);
  }

  /** Forgets everything; what is under way still reaches its callers, and is not kept. */
  clear(): void {
    this.#keys.clear();
    this.#storeRoots.clear();
    this.#underWay = new Map();
  }

  async #derive(source: KeySource, key: Uint8Array): Promise<RecordKeys> {
    const root =
      source.stretch === "store"
        ? keyRootOfStore(await this.#storeRoot(source), key)
        : await this.#stretch(() => deriveKeyRoot(Secret.hashOf(source.secret), source, key));
    return recordKeys(root);
  }

  #storeRoot(source: KeySource): Promise<Uint8Array> {
    const id = sourceId(source);
    const known = this.#storeRoots.get(id);
    if (known !== undefined) return known;
    const root = this.#stretch(() => deriveStoreRoot(Secret.hashOf(source.secret), source));
    this.#storeRoots.set(id, root);
    root.catch(() => this.#storeRoots.delete(id));
    return root;
  }

  #stretch(derive: () => Promise<Uint8Array>): Promise<Uint8Array> {
    return this.#limiter.run(async () => {
      try {
        return await derive();
      } catch {
        throw new ConfigurationError(
          "This runtime refused to derive a key with so many iterations. Some platforms allow no more than 100,000: " +
            "leave `iterations` at its default there.",
        );
      }
    });
  }
}

/** Every part but the last is of a fixed alphabet without "/", so no two sources and keys share an id. */
export function sourceId({ secret, stretch, iterations, project, storeId }: KeySource): string {
  return `${Secret.cacheIdOf(secret)}/${stretch}/${iterations}/${project}/${storeId}`;
}
