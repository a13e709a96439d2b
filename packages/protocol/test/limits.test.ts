import fc from "fast-check";
import { expect, test } from "vitest";

import { MAX_RECORD_BYTES, MIN_RECORD_BYTES, paddedLength } from "../src/index.js";

/** Padmé by the bits of integers, as the specification says it. */
function padme(length: bigint): bigint {
  const exponent = BigInt(length.toString(2).length - 1);
  const significant = BigInt(exponent.toString(2).length);
  const mask = (1n << (exponent - significant)) - 1n;
  return (length + mask) & ~mask;
}

test("padding is what integer arithmetic gives, for every length up to a record's and around powers of two", () => {
  for (let length = 257; length <= 1_100_000; length += length < 70_000 ? 1 : 37) {
    expect(paddedLength(length)).toBe(Number(padme(BigInt(length))));
  }
  for (let power = 9; power <= 20; power++) {
    for (const length of [2 ** power - 1, 2 ** power, 2 ** power + 1]) {
      expect(paddedLength(length)).toBe(Number(padme(BigInt(length))));
    }
  }
});

test("padding is never shorter, never more than 12 % longer, and a fixed point", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1_100_000 }), (length) => {
      const padded = paddedLength(length);
      expect(padded).toBeGreaterThanOrEqual(length);
      expect(padded).toBeLessThanOrEqual(Math.max(256, length * 1.12));
      expect(paddedLength(padded)).toBe(padded);
    }),
  );
});

test("the sizes of records are the specification's", () => {
  expect([MIN_RECORD_BYTES, MAX_RECORD_BYTES]).toEqual([347, 1_081_435]);
});
