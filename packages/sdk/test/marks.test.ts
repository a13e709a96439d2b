import { expect, test } from "vitest";

import { Marks, isRollback } from "../src/marks.js";

const mark = (version: number, fill: number) => ({ version, commitment: new Uint8Array(32).fill(fill) });

test("a mark is raised, never lowered, and keeps the first commitment of a version", () => {
  const marks = new Marks();
  marks.raise("h", mark(3, 1));
  marks.raise("h", mark(2, 2));
  marks.raise("h", mark(3, 3));
  expect(marks.get("h")).toEqual(mark(3, 1));
  marks.raise("h", mark(4, 4));
  expect(marks.get("h")).toEqual(mark(4, 4));
  marks.forget("h");
  expect(marks.get("h")).toBeUndefined();
});

test("another record of a version seen is told, even by who asked before it was seen (T25)", () => {
  const marks = new Marks();
  expect(marks.raise("h", mark(1, 1))).toBe(true);
  expect(marks.raise("h", mark(1, 1))).toBe(true);
  expect(marks.raise("h", mark(1, 2))).toBe(false);
  expect(marks.raise("h", mark(2, 2))).toBe(true);
  expect(marks.raise("h", mark(1, 3))).toBe(true);
});

test("older is a rollback, another record of the same version too, newer is none", () => {
  expect(isRollback(undefined, mark(1, 1))).toBe(false);
  expect(isRollback(mark(2, 1), mark(1, 1))).toBe(true);
  expect(isRollback(mark(2, 1), mark(2, 2))).toBe(true);
  expect(isRollback(mark(2, 1), mark(2, 1))).toBe(false);
  expect(isRollback(mark(2, 1), mark(3, 2))).toBe(false);
});
