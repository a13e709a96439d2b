/** How often a token may be wrong, on a clock of the test's own; spec/http.md § Secret check. */

import { beforeEach, expect, test } from "vitest";

import { HttpError } from "../../src/http/http-error.js";
import { MismatchLimit } from "../../src/http/mismatch-limit.js";

let now: number;
let limit: MismatchLimit;

beforeEach(() => {
  now = 0;
  limit = new MismatchLimit(() => now);
});

/** Seconds that the token has to wait; 0 when it need not. */
function wait(token: string): number {
  try {
    limit.refuseSpent(token);
    return 0;
  } catch (error) {
    expect(error).toBeInstanceOf(HttpError);
    expect((error as HttpError).code).toBe("rate_limited");
    return (error as HttpError).retryAfter ?? NaN;
  }
}

test("ten mismatches in any minute are the most, and each token has its own", () => {
  for (let index = 0; index < 10; index++) {
    expect(wait("a")).toBe(0);
    limit.note("a");
    now += 1_000;
  }
  expect(now).toBe(10_000);
  expect([wait("a"), wait("b")]).toEqual([50, 0]);
  now = 59_999;
  expect(wait("a")).toBe(1);
  now = 60_000;
  expect(wait("a")).toBe(0);
  limit.note("a");
  // The second of the ten ends its minute now.
  expect(wait("a")).toBe(1);
  now = 61_000;
  expect(wait("a")).toBe(0);
});
