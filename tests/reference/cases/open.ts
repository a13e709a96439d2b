/**
 * Cases of spec/record.md § Opening: records that must not open. Those called authentic are sealed with the right keys
 * around a payload no honest writer makes, so that the parser is what refuses them.
 */

import { place } from "../answers.ts";
import { bytes, lp, padded, seal, sealPayload, u32, u64, u8 } from "../reference.ts";
import { fromHex, toHex, type Vector } from "../vector.ts";
import { PLACE, SALT, SEALED_AT, fixedBytes, vector } from "./common.ts";
import { flipped } from "./seal.ts";

const VERSION = 1;

function refuses(name: string, record: Uint8Array, change: Partial<typeof PLACE & { version: number }> = {}): Vector {
  return vector("open", `refused: ${name}`, { ...PLACE, version: VERSION, record: toHex(record), ...change });
}

const content = { state: 0, expiresAt: 0, kind: 0, sealedAt: SEALED_AT, metadata: "" };
const record = seal(place(PLACE), VERSION, { ...content, value: Buffer.from("ghp_example") }, fromHex(SALT));
const otherSalt = fixedBytes("other salt", 32);
const longRecord = seal(place(PLACE), VERSION, { ...content, value: Buffer.alloc(300, "v") }, otherSalt);

interface Forgery {
  state?: number;
  expiresAt?: bigint;
  kind?: number;
  sealedAt?: number | bigint;
  metadata?: string | Uint8Array;
  value?: string | Uint8Array;
}

/** The parts of a payload as a forger writes them, without padding. */
function forgedPayload(forgery: Forgery): Buffer {
  const { kind = 0, sealedAt = SEALED_AT, metadata = "", value = "" } = forgery;
  return bytes(u8(kind), u64(sealedAt), lp(metadata), lp(value));
}

/** Seals `payload` with the right keys. */
function authentic(payload: Uint8Array, { state = 0, expiresAt = 0n }: Forgery = {}): Buffer {
  return sealPayload(place(PLACE), VERSION, { state, expiresAt, salt: fromHex(SALT) }, payload);
}

function refusesForgery(name: string, forgery: Forgery): Vector {
  return refuses(`${name}, authentic`, authentic(padded(forgedPayload(forgery)), forgery));
}

function refusesPayload(name: string, payload: Uint8Array): Vector {
  return refuses(`${name}, authentic`, authentic(payload));
}

const withZeros = (payload: Uint8Array, length: number) => bytes(payload, Buffer.alloc(length - payload.length));
const short = forgedPayload({ value: "ghp_example" });
const start = bytes(u8(0), u64(SEALED_AT));

export const openCases: Vector[] = [
  refuses("empty", Buffer.alloc(0)),
  refuses("head alone", record.subarray(0, 75)),
  refuses("346 bytes", record.subarray(0, -1)),
  refuses("unknown format", bytes(Buffer.of(2), record.subarray(1))),
  refuses("format 0", bytes(Buffer.of(0), record.subarray(1))),
  refuses("unknown suite", bytes(Buffer.of(1, 2), record.subarray(2))),

  refuses("state changed", bytes(record.subarray(0, 2), Buffer.of(1), record.subarray(3))),
  refuses("unknown state", bytes(record.subarray(0, 2), Buffer.of(3), record.subarray(3))),
  refuses("expiresAt changed", flipped(record, 10)),
  refuses("salt changed", flipped(record, 11)),
  refuses("commitment changed", flipped(record, 43)),
  refuses("ciphertext changed", flipped(record, 75)),
  refuses("last byte of ciphertext changed", flipped(record, -17)),
  refuses("tag changed", flipped(record, -1)),
  refuses("trailing byte", bytes(record, Buffer.of(0))),
  refuses("ciphertext cut short", longRecord.subarray(0, -1)),
  refuses("head of one record, ciphertext of another", bytes(record.subarray(0, 75), longRecord.subarray(75))),

  refuses("another version", record, { version: 2 }),
  refuses("another project", record, { project: "acme" }),
  refuses("another store", record, { store: "user-token" }),
  refuses("another key hash", record, { keyHash: fixedBytes("key hash", 32).toString("base64url") }),
  refuses("another value key", record, { valueKey: toHex(fixedBytes("value key", 32)) }),

  refusesForgery("unknown state", { state: 3 }),
  refusesForgery("expiresAt of 2^53", { expiresAt: 2n ** 53n }),
  refusesForgery("sealedAt of 2^53", { sealedAt: 2n ** 53n }),
  refusesForgery("unknown kind", { kind: 2 }),
  refusesForgery("text value that is not UTF-8", { value: fromHex("ff") }),
  refusesForgery("text value with an encoded surrogate", { value: fromHex("eda080") }),
  refusesForgery("metadata that is not UTF-8", {
    metadata: bytes(Buffer.from('{"a":"'), fromHex("ff"), Buffer.from('"}')),
  }),
  refusesForgery("metadata that is not JSON", { metadata: "{owner}" }),
  refusesForgery("metadata that is an array", { metadata: "[]" }),
  refusesForgery("metadata that is null", { metadata: "null" }),
  refusesForgery("metadata that is a string", { metadata: '"owner"' }),
  refusesForgery("metadata with a byte order mark", { metadata: "\ufeff{}" }),
  refusesForgery("metadata of 8193 bytes", { metadata: `{"a":"${"m".repeat(8_185)}"}` }),
  refusesForgery("tombstone with a value", { state: 1, value: "ghp_example" }),
  refusesForgery("tombstone with metadata", { state: 1, metadata: "{}" }),
  refusesForgery("tombstone of kind 1", { state: 1, kind: 1 }),
  refusesForgery("moved with a value", { state: 2, value: "ghp_example" }),
  refusesForgery("moved with metadata", { state: 2, metadata: "{}" }),

  refusesPayload("last byte of padding not zero", flipped(padded(short), -1)),
  refusesPayload("first byte of padding not zero", flipped(padded(short), short.length)),
  refusesPayload("padded to 272 bytes for 256", withZeros(short, 272)),
  refusesPayload("not padded", forgedPayload({ value: "v".repeat(300) })),
  refusesPayload("metadata longer than the payload", withZeros(bytes(start, u32(0xffffffff)), 256)),
  refusesPayload("value longer than the payload", withZeros(bytes(start, lp(""), u32(0xffffffff)), 256)),
  refusesPayload("metadata that leaves no value length", bytes(start, lp(`{"a":"${"m".repeat(235)}"}`))),
];
