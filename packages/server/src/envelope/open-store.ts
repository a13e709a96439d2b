/**
 * The unwrapped keys of one store and all that is done with them; spec/envelope.md § Record ids, § Bodies, § Tags,
 * § Secret checks.
 */

import { createHmac, createSecretKey, timingSafeEqual, type KeyObject } from "node:crypto";

import type { RecordState } from "../storage/record-store.js";
import { SEAL_BYTES, openFrom, sealInto } from "./aead.js";
import { asBuffer, lp, u32, writeU64 } from "./bytes.js";
import { SALT_BYTES, type DataKey } from "./subkeys.js";

const BODY_FORMAT = 1;
/** Format and data-key version, before the salt. */
const SALT_OFFSET = 1 + 4;
const SEAL_OFFSET = SALT_OFFSET + SALT_BYTES;

/** What a stored body is longer than its sealed record, in bytes. */
export const BODY_OVERHEAD_BYTES = SEAL_OFFSET + SEAL_BYTES;

/** Bytes of a record id and of a tag. */
const HASH_BYTES = 32;
const RECORD_ID_LABEL = lp("tacenda/1/record-id");
const FLAG_PROTECTED = 1;
const FLAG_ACTIVE = 2;

/** A store whose keys are at hand. All methods are synchronous and touch nothing outside. */
export class OpenStore {
  /** The data key that new bodies are sealed under. */
  readonly current: DataKey;
  readonly #dataKeys: ReadonlyMap<number, DataKey>;
  /** Versions of retired data keys whose wraps do not open. */
  readonly #lost: ReadonlySet<number>;
  readonly #indexKey: KeyObject;
  readonly #tagKey: KeyObject;
  readonly #secretCheckKey: KeyObject;
  /** The constant starts of the structures below. */
  readonly #bodyPrefix: Buffer;
  readonly #tagPrefix: Buffer;
  readonly #secretCheckPrefix: Buffer;

  constructor(
    name: { project: string; store: string },
    keys: { indexKey: KeyObject; dataKeys: readonly DataKey[]; current: DataKey; lost?: ReadonlySet<number> },
  ) {
    const scope = Buffer.concat([lp(name.project), lp(name.store)]);
    this.current = keys.current;
    this.#dataKeys = new Map(keys.dataKeys.map((key) => [key.version, key]));
    this.#lost = keys.lost ?? new Set();
    this.#indexKey = keys.indexKey;
    const derive = (label: string) => createSecretKey(createHmac("sha256", keys.indexKey).update(lp(label)).digest());
    this.#tagKey = derive("tacenda/1/attributes-key");
    this.#secretCheckKey = derive("tacenda/1/secret-check-key");
    this.#bodyPrefix = Buffer.concat([lp("tacenda/1/envelope"), scope]);
    this.#tagPrefix = Buffer.concat([lp("tacenda/1/attributes"), scope]);
    this.#secretCheckPrefix = Buffer.concat([lp("tacenda/1/secret-check"), scope]);
  }

  /** The data key of this version, retired ones included. */
  dataKey(version: number): DataKey | undefined {
    return this.#dataKeys.get(version);
  }

  /** Whether it was known when the keys were loaded, usable or not: loading them again would tell nothing new. */
  knowsDataKey(version: number): boolean {
    return this.#dataKeys.has(version) || this.#lost.has(version);
  }

  /** The 32-byte id that a key hash has in the database. */
  recordId(keyHash: Uint8Array): Buffer {
    return createHmac("sha256", this.#indexKey).update(RECORD_ID_LABEL).update(keyHash).digest();
  }

  /** The 32-byte authenticator of a record's current version and attributes. */
  tag(recordId: Uint8Array, state: Omit<RecordState, "tag">): Buffer {
    const length = this.#tagPrefix.length;
    const input = Buffer.allocUnsafe(length + HASH_BYTES + 9);
    input.set(this.#tagPrefix);
    input.set(recordId, length);
    writeU64(input, state.version, length + HASH_BYTES);
    input[length + HASH_BYTES + 8] = (state.protected ? FLAG_PROTECTED : 0) | (state.active ? FLAG_ACTIVE : 0);
    return createHmac("sha256", this.#tagKey).update(input).digest();
  }

  /** Whether the state carries its own tag. Constant time, unless its version is none that could have one. */
  verifyTag(recordId: Uint8Array, state: RecordState): boolean {
    if (!isVersion(state.version)) return false;
    return state.tag?.length === HASH_BYTES && timingSafeEqual(this.tag(recordId, state), state.tag);
  }

  /** What is kept of a client's secret check of 32 bytes, itself 32 bytes. */
  blindSecretCheck(check: Uint8Array): Buffer {
    return createHmac("sha256", this.#secretCheckKey).update(this.#secretCheckPrefix).update(check).digest();
  }

  /** Encrypts a sealed record for the database, under the current data key; BODY_OVERHEAD_BYTES longer. */
  seal(recordId: Uint8Array, version: number, sealedRecord: Uint8Array): Buffer {
    const subkey = this.current.subkeyForSealing();
    const body = Buffer.allocUnsafe(BODY_OVERHEAD_BYTES + sealedRecord.length);
    body[0] = BODY_FORMAT;
    body.writeUInt32BE(this.current.version, 1);
    body.set(subkey.salt, SALT_OFFSET);
    sealInto(
      body,
      SEAL_OFFSET,
      subkey.key,
      this.#additionalData(recordId, version, this.current.version),
      sealedRecord,
    );
    return body;
  }

  /** The sealed record in a stored body, or null when it does not verify for this record and version. */
  open(recordId: Uint8Array, version: number, storedBody: Uint8Array): Buffer | null {
    const dataKey = this.#dataKeys.get(dataKeyVersion(storedBody) ?? 0);
    if (dataKey === undefined || !isVersion(version)) return null;
    const body = asBuffer(storedBody);
    const subkey = dataKey.subkeyForOpening(body.subarray(SALT_OFFSET, SEAL_OFFSET));
    return openFrom(body, SEAL_OFFSET, subkey, this.#additionalData(recordId, version, dataKey.version));
  }

  /** How stored bodies under data keys of `version` or later begin, and of the current one whatever its version. */
  bodyStarts(version: number): Buffer[] {
    const versions = [...this.#dataKeys.keys()].filter((known) => known >= version || known === this.current.version);
    return versions.map((known) => Buffer.concat([Buffer.from([BODY_FORMAT]), u32(known)]));
  }

  #additionalData(recordId: Uint8Array, version: number, keyVersion: number): Buffer {
    const length = this.#bodyPrefix.length;
    const data = Buffer.allocUnsafe(length + HASH_BYTES + 12);
    data.set(this.#bodyPrefix);
    data.set(recordId, length);
    writeU64(data, version, length + HASH_BYTES);
    data.writeUInt32BE(keyVersion, length + HASH_BYTES + 8);
    return data;
  }
}

/** A damaged row may hold any number, and most are in no bytes that could be authenticated. */
function isVersion(version: number): boolean {
  return Number.isSafeInteger(version) && version > 0;
}

/** The data-key version a stored body names, unverified; null when the bytes are no stored body. */
export function dataKeyVersion(storedBody: Uint8Array): number | null {
  if (storedBody.length < BODY_OVERHEAD_BYTES || storedBody[0] !== BODY_FORMAT) return null;
  return asBuffer(storedBody).readUInt32BE(1);
}
