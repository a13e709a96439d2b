/** The judge of histories, on histories whose verdict is known, and against one that tries every order. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { judgeHistory, type Call } from "./linearizability.ts";
import { NEVER, VERSIONED_REGISTER, type RegisterOperation } from "./versioned-register.ts";

const OPEN = Infinity;

const wrote = (content: string, over: number): RegisterOperation => ({
  kind: "write",
  content,
  over,
  version: over + 1,
});
/** A write whose outcome its caller does not know. */
const tried = (content: string, over: number): RegisterOperation => ({ kind: "write", content, over });
const read = (version: number, content: string): RegisterOperation => ({ kind: "read", seen: { version, content } });
const readNothing: RegisterOperation = { kind: "read", seen: { version: 0 } };
const conflict = (over: number, version: number): RegisterOperation => ({ kind: "conflict", over, seen: { version } });

type Row = readonly [begin: number, end: number, operation: RegisterOperation];

function judge(rows: readonly Row[]): boolean {
  const calls = rows.map(([begin, end, operation]) => ({ begin, end, operation }));
  return judgeHistory(VERSIONED_REGISTER, calls).linearizable;
}

const GOOD: Readonly<Record<string, readonly Row[]>> = {
  "no call": [],
  "one after the other": [
    [1, 2, readNothing],
    [3, 4, wrote("a", 0)],
    [5, 6, read(1, "a")],
    [7, 8, wrote("deleted:", 1)],
    [9, 10, read(2, "deleted:")],
  ],
  "a read during a write sees it, and a later one within it does not undo that": [
    [1, 2, wrote("a", 0)],
    [3, 8, wrote("b", 1)],
    [4, 5, read(1, "a")],
    [6, 7, read(2, "b")],
  ],
  "of two writes at once one wins": [
    [1, 5, wrote("a", 0)],
    [2, 4, conflict(0, 1)],
    [6, 7, read(1, "a")],
  ],
  "a write without an answer is seen late": [
    [1, 2, wrote("a", 0)],
    [3, OPEN, tried("b", 1)],
    [4, 5, read(1, "a")],
    [6, 7, read(2, "b")],
  ],
  "a write without an answer never happens": [
    [1, 2, wrote("a", 0)],
    [3, OPEN, tried("b", 1)],
    [4, 5, wrote("c", 1)],
    [6, 7, read(2, "c")],
  ],
  "three writes without an answer, of which the second is built upon": [
    [1, OPEN, tried("a", 0)],
    [2, OPEN, tried("b", 0)],
    [3, OPEN, tried("c", 0)],
    [4, 5, wrote("d", 1)],
    [4, 6, read(1, "b")],
    [7, 8, read(2, "d")],
  ],
  "a write over anything": [
    [1, 2, wrote("a", 0)],
    [3, 6, { kind: "write", content: "b", version: 3 }],
    [4, 5, { kind: "write", content: "c", version: 2 }],
    [7, 8, read(3, "b")],
  ],
  "nothing to delete after a deletion": [
    [1, 2, { kind: "nothing to delete" }],
    [3, 4, wrote("a", 0)],
    [5, 9, wrote("deleted:", 1)],
    [6, 8, { kind: "nothing to delete" }],
  ],
};

const BAD: Readonly<Record<string, readonly Row[]>> = {
  "a stale read": [
    [1, 2, wrote("a", 0)],
    [3, 4, wrote("b", 1)],
    [5, 6, read(1, "a")],
  ],
  "an absence after a write": [
    [1, 2, wrote("a", 0)],
    [3, 4, readNothing],
  ],
  "a read that undoes an earlier one, within one write": [
    [1, 2, wrote("a", 0)],
    [3, 8, wrote("b", 1)],
    [4, 5, read(2, "b")],
    [6, 7, read(1, "a")],
  ],
  "a lost update": [
    [1, 4, wrote("a", 0)],
    [2, 3, wrote("b", 0)],
    [5, 6, read(1, "b")],
  ],
  "two conditional writes that both won, and nobody read": [
    [1, 2, wrote("a", 0)],
    [3, 5, wrote("b", 1)],
    [4, 6, wrote("c", 1)],
  ],
  "the value of a write that was refused": [
    [1, 2, wrote("a", 0)],
    [3, 4, conflict(0, 1)],
    [5, 6, read(2, "of the refused one")],
  ],
  "a value that a write without an answer did not bring, but later ones do": [
    [1, 2, read(1, "a")],
    [3, OPEN, tried("a", 0)],
  ],
  "a write without an answer that comes and goes": [
    [1, 2, wrote("a", 0)],
    [3, OPEN, tried("b", 1)],
    [4, 5, read(2, "b")],
    [6, 7, read(1, "a")],
  ],
  "a write without an answer that happened twice": [
    [1, OPEN, tried("a", 0)],
    [2, 3, read(1, "a")],
    [4, 5, wrote("b", 1)],
    [6, 7, read(3, "a")],
  ],
  "a value that rises after its deletion": [
    [1, 2, wrote("a", 0)],
    [3, 4, wrote("deleted:", 1)],
    [5, 6, read(1, "a")],
  ],
  "a conflict where there was none": [
    [1, 2, wrote("a", 0)],
    [3, 4, conflict(1, 1)],
  ],
  "a conflict that tells of a state which has passed": [
    [1, 2, wrote("a", 0)],
    [3, 4, wrote("b", 1)],
    [5, 6, conflict(0, 1)],
  ],
  "a version that was passed over": [
    [1, 2, wrote("a", 0)],
    [3, 4, { kind: "write", content: "b", version: 3 }],
  ],
  "nothing to delete where there is a value": [
    [1, 2, wrote("a", 0)],
    [3, 4, { kind: "nothing to delete" }],
  ],
};

/** Every order of every choice of calls that has all those with an end. */
function judgeByTrying(rows: readonly Row[], state = NEVER): boolean {
  if (rows.every(([, end]) => end === OPEN)) return true;
  return rows.some((row) => {
    const rest = rows.filter((other) => other !== row);
    const isFirst = rest.every(([, end]) => end > row[0]);
    const after = isFirst ? VERSIONED_REGISTER.step(state, row[2]) : null;
    return after !== null && judgeByTrying(rest, after);
  });
}

const contents = fc.constantFrom("a", "b", "deleted:");
const versions = fc.integer({ min: 0, max: 3 });
const operations: fc.Arbitrary<RegisterOperation> = fc.oneof(
  fc.tuple(contents, versions).map(([content, over]) => wrote(content, over)),
  fc.tuple(contents, versions).map(([content, over]) => tried(content, over)),
  contents.map((content): RegisterOperation => ({ kind: "write", content })),
  fc.tuple(versions, contents).map(([version, content]) => (version === 0 ? readNothing : read(version, content))),
  fc.tuple(versions, versions).map(([over, version]) => conflict(over, version)),
);
/** Up to seven calls on a clock of twelve ticks; no two begin or end at once. */
const histories = fc
  .array(fc.tuple(fc.nat(12), fc.integer({ min: 1, max: 8 }), fc.boolean(), operations), { maxLength: 7 })
  .map((rows) =>
    rows.map(([begin, length, isOpen, operation], index): Row => {
      const start = begin + index / 100;
      const unanswered = isOpen && operation.kind === "write" && operation.version === undefined;
      return [start, unanswered ? OPEN : start + length, operation];
    }),
  );

describe("the judge of histories", () => {
  test.each(Object.entries(GOOD))("accepts %s", (_, rows) => {
    expect(judge(rows)).toBe(true);
  });

  test.each(Object.entries(BAD))("refuses %s", (_, rows) => {
    expect(judge(rows)).toBe(false);
  });

  test("says what could not be next", () => {
    const [, , stale] = BAD["a stale read"] ?? [];
    const calls = (BAD["a stale read"] ?? []).map(([begin, end, operation]) => ({ begin, end, operation }));
    expect(judgeHistory(VERSIONED_REGISTER, calls)).toEqual({
      linearizable: false,
      order: calls.slice(0, 2).map(({ operation }) => operation),
      stuck: [stale?.[2]],
    });
  });

  test("agrees with one that tries every order", () => {
    let good = 0;
    fc.assert(
      fc.property(histories, (rows) => {
        const expected = judgeByTrying(rows);
        if (expected && rows.length > 3) good++;
        expect(judge(rows)).toBe(expected);
      }),
      { numRuns: 20_000 },
    );
    expect(good).toBeGreaterThan(100);
  });

  test("is done with long histories of sixteen clients", () => {
    const calls: Call<RegisterOperation>[] = [];
    // Each version is fought for by sixteen, four of which never hear of it, and read by all while that goes on.
    for (let version = 1; version <= 40; version++) {
      for (let client = 0; client < 16; client++) {
        const begin = version * 1_000 + client;
        const won = client === version % 16;
        const operation = won ? wrote(`${version}`, version - 1) : conflict(version - 1, version);
        calls.push({ begin, end: begin + 100, operation: client < 12 || won ? operation : tried("x", version - 1) });
        if (client >= 12 && !won) (calls.at(-1) ?? { end: 0 }).end = OPEN;
        calls.push({ begin: begin + 500, end: begin + 600, operation: read(version, `${version}`) });
      }
    }
    expect(judgeHistory(VERSIONED_REGISTER, calls).linearizable).toBe(true);
    calls.push({ begin: 39_700, end: 39_800, operation: read(38, "38") });
    expect(judgeHistory(VERSIONED_REGISTER, calls).linearizable).toBe(false);
  });
});
