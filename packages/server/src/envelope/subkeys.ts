/** Data keys and the subkeys that bodies are encrypted under; spec/envelope.md § Subkeys. */

import { createHmac, createSecretKey, randomBytes, type KeyObject } from "node:crypto";

import { LRUCache } from "lru-cache";

import { lp } from "./bytes.js";

/** Bytes of the salt a subkey is derived with. */
export const SALT_BYTES = 16;
/** Bodies sealed under one subkey: so few that random 96-bit nonces do not meet. */
const SEALS_PER_SALT = 2 ** 24;

const LABEL = lp("tacenda/1/record-key");

/** A subkey and the salt that names it. */
interface Subkey {
  salt: Buffer;
  key: KeyObject;
}

/** What all data keys of a process share: how often salts change, and the subkeys that were used last. */
export class SubkeyPool {
  readonly sealsPerSalt: number;
  readonly #opening: LRUCache<string, KeyObject>;
  #dataKeys = 0;

  /** `maxSubkeys` bounds the cache of subkeys for reading. */
  constructor(options: { sealsPerSalt?: number; maxSubkeys?: number } = {}) {
    this.sealsPerSalt = options.sealsPerSalt ?? SEALS_PER_SALT;
    this.#opening = new LRUCache({ max: options.maxSubkeys ?? 16_384 });
  }

  /** A number that no other data key of this pool has, so that no two share a place in the cache. */
  nextId(): number {
    return this.#dataKeys++;
  }

  /** The cached subkey at `place`, made by `derive` when it is not there. */
  forOpening(place: string, derive: () => KeyObject): KeyObject {
    const cached = this.#opening.get(place);
    if (cached !== undefined) return cached;
    const key = derive();
    this.#opening.set(place, key);
    return key;
  }
}

/** One unwrapped data key of a store. The key itself encrypts nothing. */
export class DataKey {
  /** 1, 2, 3 … per store. */
  readonly version: number;
  readonly #key: KeyObject;
  readonly #pool: SubkeyPool;
  readonly #id: number;
  #sealing: Subkey | null = null;
  #sealsLeft = 0;

  constructor(version: number, key: KeyObject, pool: SubkeyPool) {
    this.version = version;
    this.#key = key;
    this.#pool = pool;
    this.#id = pool.nextId();
  }

  /** Whether this is the same key. */
  equals(version: number, key: KeyObject): boolean {
    return this.version === version && this.#key.equals(key);
  }

  /** The subkey to seal one more body under; its salt is this process's own, and changes in time. */
  subkeyForSealing(): Subkey {
    if (this.#sealing === null || this.#sealsLeft === 0) {
      const salt = randomBytes(SALT_BYTES);
      this.#sealing = { salt, key: this.#derive(salt) };
      this.#sealsLeft = this.#pool.sealsPerSalt;
    }
    this.#sealsLeft--;
    return this.#sealing;
  }

  /** The subkey that a body with this salt was sealed under. */
  subkeyForOpening(salt: Buffer): KeyObject {
    return this.#pool.forOpening(`${this.#id}:${salt.toString("latin1")}`, () => this.#derive(salt));
  }

  #derive(salt: Uint8Array): KeyObject {
    return createSecretKey(createHmac("sha256", this.#key).update(LABEL).update(salt).digest());
  }
}
