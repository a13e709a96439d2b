/** Requests of one token: so many at once, so many per second, and no more; spec/http.md § Rate limits. */

import { encodeKeyHash } from "@tacenda/protocol";
import { describe, expect, test } from "vitest";

import type { HttpError } from "../../src/http/http-error.js";
import { NOBODY, ROOT } from "../../src/auth/principal.js";
import { RateLimit } from "../../src/http/rate-limit.js";
import { ROOT_TOKEN, errorCode, openWorld, randomRecordPath, sealedRecord } from "../world.js";

const token = (id: string) => ({ ...NOBODY, id });

function limited(perSecond: number, burst: number) {
  const clock = { now: 5_000 };
  const limit = new RateLimit({ perSecond, burst }, () => clock.now);
  /** Seconds to wait, or 0 when it counted. */
  const take = (id = "a") => {
    try {
      limit.take(token(id));
      return 0;
    } catch (error) {
      expect((error as HttpError).code).toBe("rate_limited");
      return (error as HttpError).retryAfter ?? NaN;
    }
  };
  return { clock, limit, take };
}

describe("the count", () => {
  test("a burst at once, then one for each that is earned", () => {
    const { clock, take } = limited(10, 5);
    expect(Array.from({ length: 7 }, () => take())).toEqual([0, 0, 0, 0, 0, 1, 1]);
    clock.now += 99;
    expect(take()).toBe(1);
    clock.now += 1;
    expect([take(), take()]).toEqual([0, 1]);
    clock.now += 1_000_000;
    expect(Array.from({ length: 6 }, () => take())).toEqual([0, 0, 0, 0, 0, 1]);
  });

  test("the burst is whole whatever the rate, and however long the process runs", () => {
    for (const perSecond of [3, 7, 13, 99, 997]) {
      const { clock, take } = limited(perSecond, 50);
      clock.now = 31_536_000_000.123;
      expect(Array.from({ length: 51 }, () => take())).toEqual([...Array.from({ length: 50 }, () => 0), 1]);
    }
  });

  test("in the long run no more than the rate, however it is asked for", () => {
    const { clock, take } = limited(7, 3);
    let taken = 0;
    for (; clock.now < 105_000; clock.now += 13) if (take() === 0) taken++;
    expect(taken).toBeGreaterThanOrEqual(7 * 100);
    expect(taken).toBeLessThanOrEqual(7 * 100 + 3);
  });

  test("Retry-After is long enough, and of a second at least", () => {
    const { clock, limit, take } = limited(1, 1);
    expect(take()).toBe(0);
    limit.takeMore(token("a"), 9);
    expect(take()).toBe(10);
    clock.now += 9_500;
    expect(take()).toBe(1);
    clock.now += 500;
    expect(take()).toBe(0);
  });

  test("each token has its own, and root has none", () => {
    const { limit, take } = limited(1, 1);
    expect([take("a"), take("b"), take("a")]).toEqual([0, 0, 1]);
    for (let count = 0; count < 100; count++) limit.take(ROOT);
    limit.takeMore(ROOT, 1_000);
    limit.take(ROOT);
  });

  test("of more tokens than are remembered the latest are", () => {
    const { take } = limited(1, 1);
    for (let count = 0; count <= 10_000; count++) take(`token-${count}`);
    expect(take("token-10000")).toBe(1);
    expect(take("token-0")).toBe(0);
  });
});

describe("over HTTP", () => {
  const GRANTS = [{ stores: ["one"], permissions: ["read", "write"] as ("read" | "write")[] }];
  const write = { "content-type": "application/octet-stream", "if-none-match": "*" };

  test("requests beyond the burst are 429, whatever they ask for; other tokens and root go on", async () => {
    const world = await openWorld({ rateLimit: { perSecond: 0.01, burst: 3 } });
    const [noisy, quiet] = [await world.mint("default", GRANTS), await world.mint("default", GRANTS)];
    const path = randomRecordPath();
    expect((await world.call("PUT", path, { token: noisy, headers: write, body: sealedRecord() })).status).toBe(201);
    // What is refused counts as well: it is work.
    expect((await world.call("GET", randomRecordPath("one", "other"), { token: noisy })).status).toBe(404);
    expect((await world.call("GET", path, { token: noisy })).status).toBe(200);
    for (const target of [path, randomRecordPath("two"), randomRecordPath("one", "other"), "/v1/token"]) {
      const answer = await world.call("GET", target, { token: noisy });
      expect([target, answer.status, await errorCode(answer)]).toEqual([target, 429, "rate_limited"]);
      expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(50);
    }
    const large = await world.call("PUT", randomRecordPath(), {
      token: noisy,
      headers: write,
      body: sealedRecord({ length: 1_081_435 }),
    });
    expect(large.status).toBe(429);
    expect((await world.call("GET", path, { token: quiet })).status).toBe(200);
    for (let count = 0; count < 10; count++) {
      expect((await world.call("GET", path, { token: ROOT_TOKEN })).status).toBe(200);
    }
    expect((await world.call("GET", "/nothing", { token: noisy })).status).toBe(404);
    expect((await world.call("GET", "/livez")).status).toBe(200);
  });

  test("a batch is let in as one, and counts as its operations", async () => {
    const world = await openWorld({ rateLimit: { perSecond: 0.01, burst: 2 } });
    const good = await world.mint("default", GRANTS);
    const reads = Array.from({ length: 30 }, (_, index) => ({ key: encodeKeyHash(new Uint8Array(32).fill(index)) }));
    const batch = () => world.call("POST", "/v1/projects/default/stores/one/batch", { token: good, json: { reads } });
    expect((await batch()).status).toBe(200);
    const answer = await batch();
    expect(answer.status).toBe(429);
    // 30 made and 2 may be ahead: 29 have to be earned before the next, at 100 seconds each.
    expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(2_800);
  });

  test("without a limit there is none", async () => {
    const world = await openWorld();
    const good = await world.mint("default", GRANTS);
    const answers = await Promise.all(
      Array.from({ length: 500 }, () => world.call("GET", "/v1/token", { token: good })),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
  });
});
