/** When readiness is asked anew, and what it then tells; spec/http.md § Health. */

import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { createReadiness } from "../src/readiness.js";

beforeEach(() => void vi.useFakeTimers({ now: 1_800_000_000_000 }));
afterEach(() => void vi.useRealTimers());

test("an answer is given again for a second, and no longer when the system's clock was set back", async () => {
  const answers = [() => Promise.resolve(), () => Promise.reject(new Error("gone")), () => Promise.resolve()];
  const ready = createReadiness([() => answers.shift()?.() ?? Promise.resolve()]);
  await ready();
  await vi.advanceTimersByTimeAsync(999);
  await ready();
  expect(answers).toHaveLength(2);

  vi.setSystemTime(Date.now() - 3_600_000);
  await vi.advanceTimersByTimeAsync(1);
  await expect(ready()).rejects.toThrow("gone");
  await expect(ready()).rejects.toThrow("gone");
  await vi.advanceTimersByTimeAsync(1_000);
  await ready();
  expect(answers).toHaveLength(0);
});

test("a check that does not end is an answer after 5 s", async () => {
  const ready = createReadiness([() => new Promise<void>(() => undefined)]);
  const answer = expect(ready()).rejects.toMatchObject({ code: "overloaded" });
  await vi.advanceTimersByTimeAsync(5_000);
  await answer;
});
