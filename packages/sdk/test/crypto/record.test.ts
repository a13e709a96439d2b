import { MAX_RECORD_BYTES } from "@tacenda/protocol";
import { expect, test } from "vitest";

import { recordKeys } from "../../src/crypto/derive.js";
import { ValueKind } from "../../src/crypto/payload.js";
import { openRecord, sealRecord, verifyHead } from "../../src/crypto/record.js";

const keys = recordKeys(new Uint8Array(32).fill(7));
const place = { project: "default", storeId: "user-tokens", version: 1 };
const live = { state: 0, expiresAt: 0 } as const;
const payloadOf = (value: Uint8Array) => ({ kind: ValueKind.bytes, sealedAt: 1, metadata: new Uint8Array(0), value });
const seal = (value: Uint8Array) => sealRecord(keys, place, live, payloadOf(value));

test("each seal has a salt, and so keys and a nonce, of its own (T15)", () => {
  const parts = Array.from({ length: 300 }, () => seal(Uint8Array.of(1)).record);
  for (const [from, to] of [
    [11, 43],
    [43, 75],
    [75, 107],
  ]) {
    expect(new Set(parts.map((record) => Buffer.from(record.subarray(from, to)).toString("hex"))).size).toBe(300);
  }
});

test("values of similar length have records of one length (T13)", () => {
  const lengths = (from: number, to: number) =>
    new Set(Array.from({ length: to - from + 1 }, (_, index) => seal(new Uint8Array(from + index)).record.length));
  expect([...lengths(0, 239)]).toEqual([347]);
  // Payloads of 1,017 to 1,417 bytes: one length of 1,024, then steps of 64.
  expect(lengths(1_000, 1_400).size).toBe(8);
});

test("a record sealed under one key opens under no other, and its commitment decides that before the cipher (T5)", () => {
  const { record } = seal(Uint8Array.of(1));
  const others = Array.from({ length: 50 }, (_, index) => recordKeys(new Uint8Array(32).fill(index + 100)));
  for (const other of others) {
    expect(openRecord(other, place, record)).toBe("record_open");
    // Even a head alone, without any ciphertext to try, is refused.
    expect(verifyHead(other, place, record.subarray(0, 75))).toBe("record_open");
  }
  expect(verifyHead(keys, place, record.subarray(0, 75))).toMatchObject({ version: 1, state: 0, expiresAt: 0 });
});

test("a record longer than any is of no known format", () => {
  const record = new Uint8Array(MAX_RECORD_BYTES + 1).fill(1, 0, 3);
  expect(openRecord(keys, place, record)).toBe("unsupported_format");
  expect(openRecord(keys, place, record.subarray(1))).toBe("record_open");
});

test("what is opened is a copy: it lives on when the answer's buffer is used again", () => {
  const { record, commitment } = seal(Uint8Array.of(1, 2, 3));
  const opened = openRecord(keys, place, record);
  record.fill(0);
  if (typeof opened === "string") return expect.fail(opened);
  expect(opened.commitment).toEqual(commitment);
  expect(opened.payload.value).toEqual(Uint8Array.of(1, 2, 3));
});
