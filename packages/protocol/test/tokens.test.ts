import { expect, test } from "vitest";

import { BASE62, randomBase62 } from "../src/index.js";

test("every base-62 character comes out equally often", () => {
  // Each byte once: 248 of the 256 are used, each character by four of them.
  const everyByte = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  const text = randomBase62(248, () => everyByte);
  for (const character of BASE62) expect(text.split(character).length - 1).toBe(4);
});

test("bytes that would make it uneven are thrown away, however many come", () => {
  let calls = 0;
  const text = randomBase62(3, (length) => new Uint8Array(length).fill(++calls < 5 ? 255 : 61));
  expect([text, calls]).toEqual(["zzz", 5]);
});
