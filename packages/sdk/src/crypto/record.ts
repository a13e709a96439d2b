/** Sealing a payload into a record and opening it again; spec/record.md § Sealing, § Head, § Opening. */

import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import {
  HEAD_BYTES,
  MAX_RECORD_BYTES,
  MIN_RECORD_BYTES,
  RECORD_FORMAT,
  RECORD_SUITE,
  RecordState,
  parseHead,
  type RecordHead,
} from "@tacenda/protocol";

import { type Bytes, concat, equalBytes, lp, u64, u8, utf8 } from "./bytes.js";
import type { RecordKeys } from "./derive.js";
import { type DecodedPayload, type Payload, ValueKind, decodePayload, encodePayload } from "./payload.js";

/** Where and as which version a record stands. All of it is bound into the seal. */
export interface RecordPlace {
  project: string;
  storeId: string;
  /** 1 … 2^53−1. */
  version: number;
}

/** What a head says in the clear, and proves by its commitment. */
export interface SealedState {
  state: RecordState;
  /** Milliseconds since the epoch; 0 for never. */
  expiresAt: number;
}

/** A verified head: some holder of the secret sealed this version with this state and expiry. */
export interface VerifiedHead extends SealedState {
  version: number;
  /** 32 bytes. */
  commitment: Uint8Array;
}

export interface OpenedRecord extends VerifiedHead {
  payload: DecodedPayload;
}

/** Why bytes did not open. Everything behind the format bytes is one fault: an attacker learns nothing from which. */
export type OpenFault = "unsupported_format" | "record_open";

/** A fresh seal. */
export interface Sealed {
  record: Bytes;
  /** 32 bytes, part of the record's head; tells two records of one version apart. */
  commitment: Bytes;
}

const SEAL_LABEL = lp(utf8("tacenda/1/seal"));
const FORMAT_AND_SUITE = Uint8Array.of(RECORD_FORMAT, RECORD_SUITE);

/** The seal of `payload` as one version of one key, under a fresh 32-byte salt. `salt` is a parameter for vectors only. */
export function sealRecord(
  keys: RecordKeys,
  place: RecordPlace,
  sealed: SealedState,
  payload: Payload,
  salt: Bytes = crypto.getRandomValues(new Uint8Array(32)),
): Sealed {
  const context = sealContext(keys, place, sealed);
  const { encKey, nonce, commitment } = sealKeys(keys, salt, context);
  const ciphertext = chacha20poly1305(encKey, nonce, context).encrypt(encodePayload(payload));
  const record = concat(FORMAT_AND_SUITE, u8(sealed.state), u64(sealed.expiresAt), salt, commitment, ciphertext);
  return { record, commitment: record.slice(43, HEAD_BYTES) };
}

/** Opens a record as the version that `place` names. */
export function openRecord(keys: RecordKeys, place: RecordPlace, record: Uint8Array): OpenedRecord | OpenFault {
  if (record.length < MIN_RECORD_BYTES || record.length > MAX_RECORD_BYTES) return "unsupported_format";
  const head = readHead(record);
  if (typeof head === "string") return head;
  const context = sealContext(keys, place, head);
  const { encKey, nonce, commitment } = sealKeys(keys, head.salt, context);
  if (!equalBytes(commitment, head.commitment)) return "record_open";
  const payload = decrypt(encKey, nonce, context, record.subarray(HEAD_BYTES));
  if (payload === null) return "record_open";
  if (head.state !== RecordState.value && !isEmpty(payload)) return "record_open";
  const { state, expiresAt } = head;
  return { version: place.version, state, expiresAt, commitment: head.commitment.slice(), payload };
}

/** Verifies a head alone, without its ciphertext, as the version that `place` names. */
export function verifyHead(keys: RecordKeys, place: RecordPlace, bytes: Uint8Array): VerifiedHead | OpenFault {
  if (bytes.length !== HEAD_BYTES) return "unsupported_format";
  const head = readHead(bytes);
  if (typeof head === "string") return head;
  const { commitment } = sealKeys(keys, head.salt, sealContext(keys, place, head));
  if (!equalBytes(commitment, head.commitment)) return "record_open";
  const { state, expiresAt } = head;
  return { version: place.version, state, expiresAt, commitment: head.commitment.slice() };
}

function readHead(record: Uint8Array): RecordHead | OpenFault {
  const head = parseHead(record);
  if (head === "malformed") return "record_open";
  return typeof head === "string" ? "unsupported_format" : head;
}

function sealContext(keys: RecordKeys, place: RecordPlace, { state, expiresAt }: SealedState): Bytes {
  return concat(
    SEAL_LABEL,
    FORMAT_AND_SUITE,
    lp(utf8(place.project)),
    lp(utf8(place.storeId)),
    keys.keyHash,
    u64(place.version),
    u8(state),
    u64(expiresAt),
  );
}

function sealKeys(keys: RecordKeys, salt: Uint8Array, context: Uint8Array) {
  const okm = hkdf(sha256, keys.valueKey, salt, context, 76);
  return { encKey: okm.subarray(0, 32), nonce: okm.subarray(32, 44), commitment: okm.subarray(44, 76) };
}

function decrypt(
  key: Uint8Array,
  nonce: Uint8Array,
  context: Uint8Array,
  ciphertext: Uint8Array,
): DecodedPayload | null {
  try {
    return decodePayload(chacha20poly1305(key, nonce, context).decrypt(ciphertext));
  } catch {
    return null;
  }
}

/** Tombstones and moved marks carry nothing. */
function isEmpty({ kind, metadata, value }: Payload): boolean {
  return kind === ValueKind.text && metadata.length === 0 && value.length === 0;
}
