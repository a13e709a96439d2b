/** Who is let in, who waits and who is sent away; spec/http.md § Overload. */

import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Gate, type Leave } from "../../src/http/gate.js";

const PATIENCE = 2_000;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Enters one after the other, and notes who was let in or sent away. */
function visitor(gate: Gate) {
  const seen: string[] = [];
  const leaves = new Map<string, Leave>();
  const enter = async (name: string, weight?: number) => {
    try {
      leaves.set(name, await gate.enter(weight));
      seen.push(`${name} in`);
    } catch (error) {
      seen.push(`${name} ${(error as { code: string }).code}`);
    }
  };
  return {
    seen,
    enter: (name: string, weight?: number) => void enter(name, weight),
    leave: (name: string) => leaves.get(name)?.(),
  };
}

const settle = () => vi.advanceTimersByTimeAsync(0);

test("so many are inside; the others follow in the order they came, one for each that leaves", async () => {
  const gate = new Gate(2);
  const { seen, enter, leave } = visitor(gate);
  for (const name of ["a", "b", "c", "d", "e"]) enter(name);
  await settle();
  expect(seen).toEqual(["a in", "b in"]);
  expect([gate.inside, gate.waiting]).toEqual([2, 3]);
  leave("b");
  await settle();
  leave("a");
  await settle();
  expect(seen).toEqual(["a in", "b in", "c in", "d in"]);
  expect([gate.inside, gate.waiting]).toEqual([2, 1]);
});

test("leaving twice lets in only one", async () => {
  const gate = new Gate(1);
  const { seen, enter, leave } = visitor(gate);
  for (const name of ["a", "b", "c"]) enter(name);
  await settle();
  leave("a");
  leave("a");
  await settle();
  expect(seen).toEqual(["a in", "b in"]);
  leave("b");
  leave("b");
  await settle();
  leave("c");
  leave("c");
  expect(gate.inside).toBe(0);
});

test("who is not let in for two seconds is sent away, and takes no place later", async () => {
  const gate = new Gate(1);
  const { seen, enter, leave } = visitor(gate);
  enter("a");
  enter("b");
  await vi.advanceTimersByTimeAsync(PATIENCE - 1);
  expect(seen).toEqual(["a in"]);
  await vi.advanceTimersByTimeAsync(1);
  expect(seen).toEqual(["a in", "b overloaded"]);
  leave("a");
  expect([gate.inside, gate.waiting]).toEqual([0, 0]);
});

test("when too many wait the next is sent away at once", async () => {
  const gate = new Gate(1, { maxWaiting: 2 });
  const { seen, enter } = visitor(gate);
  for (const name of ["a", "b", "c", "d"]) enter(name);
  await settle();
  expect(seen).toEqual(["a in", "d overloaded"]);
});

test("a light one does not overtake a heavy one, until that is sent away", async () => {
  const gate = new Gate(10);
  const { seen, enter, leave } = visitor(gate);
  enter("a", 6);
  enter("heavy", 8);
  await vi.advanceTimersByTimeAsync(1_000);
  enter("light", 1);
  expect(gate.tryEnter(1)).toBeNull();
  await settle();
  expect(seen).toEqual(["a in"]);
  await vi.advanceTimersByTimeAsync(PATIENCE - 1_000);
  expect(seen).toEqual(["a in", "heavy overloaded", "light in"]);
  leave("a");
  leave("light");
  expect(gate.inside).toBe(0);
});

test("what weighs more than there is room for is let in alone", async () => {
  const gate = new Gate(10);
  const { seen, enter, leave } = visitor(gate);
  enter("a", 1_000);
  enter("b", 1);
  await settle();
  expect(seen).toEqual(["a in"]);
  expect(gate.inside).toBe(10);
  leave("a");
  await settle();
  expect(seen).toEqual(["a in", "b in"]);
  expect(gate.inside).toBe(1);
});
