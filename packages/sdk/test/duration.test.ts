import { expect, test } from "vitest";

import { type Duration, expiryOf, milliseconds } from "../src/duration.js";
import { ConfigurationError } from "../src/errors.js";

test.each([
  ["1s", 1_000],
  ["15m", 900_000],
  ["12h", 43_200_000],
  ["30d", 2_592_000_000],
  ["4w", 2_419_200_000],
  [1, 1],
  [0.5, 1],
] as const)("%s is %d ms", (duration, expected) => expect(milliseconds(duration)).toBe(expected));

test.each([
  "",
  "d",
  "1",
  "1y",
  "-1d",
  "1.5h",
  " 1d",
  "1d ",
  "0s",
  "99999999999d",
  0,
  -1,
  NaN,
  Infinity,
  2 ** 60,
  null,
  {},
])("%s is no duration", (duration) => expect(() => milliseconds(duration as Duration)).toThrow(ConfigurationError));

test("an expiry is never, after a while, or at a time", () => {
  expect(expiryOf({})).toBe(0);
  const before = Date.now();
  expect(expiryOf({ expiresIn: "1h" })).toBeGreaterThanOrEqual(before + 3_600_000);
  const date = new Date(Date.now() + 1_000);
  expect(expiryOf({ expiresAt: date })).toBe(date.getTime());
  expect(() => expiryOf({ expiresAt: new Date(8.7e15) })).toThrow(ConfigurationError);
});
