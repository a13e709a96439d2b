/** That uses are written down together, later, and not lost to a failure; spec/http.md § Last use. */

import { expect, onTestFinished, test, vi } from "vitest";

import { TokenUses, dayOf } from "../../src/auth/token-uses.js";
import type { TokenUse } from "../../src/storage/directory.js";

const INTERVAL = 60_000;

function setUp() {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const state = { commits: [] as (readonly TokenUse[])[], failing: false, warnings: 0 };
  const noteTokenUses = (uses: readonly TokenUse[]) => {
    if (state.failing) return Promise.reject(new Error("away"));
    state.commits.push(uses);
    return Promise.resolve();
  };
  const log = () => undefined;
  const logger = { debug: log, info: log, warn: () => (state.warnings += 1), error: log };
  const uses = new TokenUses({ directory: { noteTokenUses }, logger, interval: INTERVAL });
  uses.start();
  return { state, uses };
}

test("a day begins at midnight in UTC", () => {
  expect(dayOf(Date.UTC(2026, 2, 1, 23, 59, 59, 999))).toBe(Date.UTC(2026, 2, 1));
  expect(dayOf(Date.UTC(2026, 2, 2))).toBe(Date.UTC(2026, 2, 2));
});

test("what was noted is written at the next interval, the last day of each; and nothing when there is nothing", async () => {
  const { state, uses } = setUp();
  await vi.advanceTimersByTimeAsync(3 * INTERVAL);
  expect(state.commits).toEqual([]);
  uses.note("a", 1);
  uses.note("b", 1);
  uses.note("a", 2);
  expect(state.commits).toEqual([]);
  await vi.advanceTimersByTimeAsync(2 * INTERVAL);
  expect(state.commits).toEqual([
    [
      { id: "a", at: 2 },
      { id: "b", at: 1 },
    ],
  ]);
});

test("a failure is told, and what it kept from being written is written later, unless newer uses came", async () => {
  const { state, uses } = setUp();
  state.failing = true;
  uses.note("a", 1);
  uses.note("b", 1);
  await vi.advanceTimersByTimeAsync(INTERVAL);
  expect(state.warnings).toBe(1);
  uses.note("a", 2);
  state.failing = false;
  await uses.stop();
  expect(state.commits.flat()).toEqual(
    expect.arrayContaining([
      { id: "a", at: 2 },
      { id: "b", at: 1 },
    ]),
  );
  expect(state.commits.flat()).toHaveLength(2);
});

test("what waits is bounded, and is written in steps", async () => {
  const { state, uses } = setUp();
  for (let token = 0; token < 20_000; token++) uses.note(`t${token}`, 1);
  uses.note("t5", 2);
  await uses.stop();
  expect(state.commits.flat()).toHaveLength(10_000);
  expect(state.commits.flat().find(({ id }) => id === "t5")?.at).toBe(2);
  expect(Math.max(...state.commits.map(({ length }) => length))).toBe(256);
});
