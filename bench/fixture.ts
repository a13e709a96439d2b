/** What all rows have in common: the value, its size as a record, and a client to measure. */

import { randomFillSync } from "node:crypto";

import {
  HEAD_BYTES,
  PAYLOAD_OVERHEAD_BYTES,
  RECORD_FORMAT,
  RECORD_SUITE,
  RecordState,
  TAG_BYTES,
  paddedLength,
} from "@tacenda/protocol";
import { Tacenda, generateSecret, type Store } from "@tacenda/sdk";

/** 300 characters, as the targets say. */
export const VALUE = "0123456789".repeat(30);
/** Bytes of its sealed record. */
export const RECORD_BYTES = recordBytes(VALUE.length);

/** Bytes of the sealed record of a value of so many bytes. */
export function recordBytes(valueBytes: number): number {
  return HEAD_BYTES + paddedLength(PAYLOAD_OVERHEAD_BYTES + valueBytes) + TAG_BYTES;
}

/** Fills `target` from `start` to its end with what a server takes for a sealed record that never expires: random bytes behind a head. */
export function fillRecord(target: Buffer, start: number): void {
  randomFillSync(target, start);
  target[start] = RECORD_FORMAT;
  target[start + 1] = RECORD_SUITE;
  target[start + 2] = RecordState.value;
  target.fill(0, start + 3, start + 11);
}

export const STORE = "bench";
export const SECRET = generateSecret();

/** Where the in-memory server pretends to be. */
const MEMORY_URL = "http://127.0.0.1:9";

/** A fresh client's store over a given `fetch`. */
export function memoryStore(fetch: typeof globalThis.fetch, secret = SECRET): Store {
  const token = "a-token-that-no-server-ever-sees";
  return new Tacenda({ url: MEMORY_URL, token, fetch }).getStore(STORE, { secret });
}

/** @throws {Error} when a read gave anything but the value. */
export function requireValue(value: string | null): void {
  if (value !== VALUE) throw new Error("A read gave another value than was written: the benchmark measures nothing.");
}
