import fc from "fast-check";
import { expect, test } from "vitest";

import { decodeKeyHash, encodeKeyHash, fromBase64url, toBase64url } from "../src/index.js";

test("bytes go there and back, as Node writes them", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      const text = toBase64url(bytes);
      expect(text).toBe(Buffer.from(bytes).toString("base64url"));
      expect(fromBase64url(text)).toEqual(Uint8Array.from(bytes));
    }),
  );
});

test("only the one canonical text of some bytes is taken", () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 8 }), (text) => {
      const bytes = fromBase64url(text);
      if (bytes !== null) expect(toBase64url(bytes)).toBe(text);
    }),
  );
  expect(fromBase64url("QQ")).toEqual(Uint8Array.of(65));
  for (const lenient of ["QR", "QQ==", "Q", "Q Q", "Q+", "Q/", "QQ\n", "é"]) expect(fromBase64url(lenient)).toBeNull();
});

test("a key hash is 43 characters that end canonically", () => {
  const hash = encodeKeyHash(new Uint8Array(32).fill(255));
  expect(decodeKeyHash(hash)).toEqual(new Uint8Array(32).fill(255));
  for (const wrong of [hash.slice(1), `${hash}A`, `${hash.slice(0, -1)}9`, ""]) expect(decodeKeyHash(wrong)).toBeNull();
});
