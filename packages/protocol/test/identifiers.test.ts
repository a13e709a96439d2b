import { expect, test } from "vitest";

import { ERROR_STATUS, isErrorCode, isId, parseVersion, parseVersionTag, versionTag } from "../src/index.js";

test.each(["a", "0", "user-tokens", "a_b", "a".repeat(63)])("%s is an id", (id) => expect(isId(id)).toBe(true));

test.each(["", "-a", "_a", "A", "a".repeat(64), "a/b", "a.b", "a b", "é", "a\n", "__proto__"])("%j is none", (id) =>
  expect(isId(id)).toBe(false),
);

test("version tags are strong, decimal and exact", () => {
  for (const version of [1, 9, 10, 2 ** 53 - 1]) expect(parseVersionTag(versionTag(version))).toBe(version);
  for (const tag of [
    "1",
    'W/"1"',
    '"0"',
    '"01"',
    '"-1"',
    '"1.0"',
    '"1e3"',
    '"9007199254740992"',
    '"1","2"',
    '""',
    "*",
  ]) {
    expect(parseVersionTag(tag)).toBeNull();
  }
  for (const digits of ["", "0", "+1", " 1", "1 ", "0x1", "99999999999999999"]) expect(parseVersion(digits)).toBeNull();
});

test("only codes of the list are codes", () => {
  for (const code of Object.keys(ERROR_STATUS)) expect(isErrorCode(code)).toBe(true);
  for (const other of ["", "toString", "__proto__", "constructor", undefined, null, 404])
    expect(isErrorCode(other)).toBe(false);
});
