/** Sentences to a person count in English. */

import { expect, test } from "vitest";

import { counted } from "../src/counted.js";

test("one thing is no plural, and none is", () => {
  expect([0, 1, 2].map((count) => counted(count, "wrapped key"))).toEqual([
    "0 wrapped keys",
    "1 wrapped key",
    "2 wrapped keys",
  ]);
});
