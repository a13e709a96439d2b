/** Metrics of several processes as those of one; spec/http.md § Metrics. */

import { setTimeout as sleep } from "node:timers/promises";

import { expect, test } from "vitest";

import { WorkerMetrics } from "../../src/cli/worker-metrics.js";
import { createMetrics } from "../../src/metrics.js";

/** Two workers that answer, unless they are silent. */
function setUp() {
  const workers = [1, 2].map((id) => ({ id, metrics: createMetrics(), isSilent: false }));
  const sum = new WorkerMetrics(() => workers.length);
  const ask = (id: number) => {
    const worker = workers.find((one) => one.id === id);
    if (worker === undefined || worker.isSilent) return;
    void worker.metrics.snapshot().then((snapshot) => sum.note(id, snapshot));
  };
  /** The value of a line that begins so, or undefined. */
  const valueOf = async (begin: string) => {
    const text = await sum.render(
      workers.map(({ id }) => id),
      ask,
    );
    const line = text.split("\n").find((one) => one.startsWith(begin));
    return line === undefined ? undefined : Number(line.split(" ").at(-1));
  };
  const [one, two] = workers;
  if (one === undefined || two === undefined) throw new Error("two workers");
  return { sum, workers, one, two, valueOf };
}

const REQUESTS = "tacenda_http_request_duration_seconds_count";

test("requests are summed, and what each has seen in the one database is not", async () => {
  const { one, two, valueOf } = setUp();
  for (const { metrics } of [one, two, two]) metrics.observe("/livez", "GET", 200, 0.1);
  one.metrics.setKeyWork(7, 1);
  two.metrics.setKeyWork(7, 0);
  expect(await valueOf(REQUESTS)).toBe(3);
  expect(await valueOf("tacenda_http_request_duration_seconds_sum")).toBeCloseTo(0.3);
  expect(await valueOf("tacenda_outdated_key_wraps")).toBe(7);
  expect(await valueOf("tacenda_reencryptions")).toBe(1);
  expect(await valueOf("tacenda_workers ")).toBe(2);
});

test("what those that ended have counted still counts, and what they held does not", async () => {
  const { sum, workers, one, two, valueOf } = setUp();
  for (const { metrics } of [one, two]) metrics.observe("/livez", "GET", 200, 0.1);
  one.metrics.setKeyWork(9, 0);
  expect(await valueOf(REQUESTS)).toBe(2);
  const memory = (await valueOf("process_resident_memory_bytes")) ?? 0;
  sum.noteEnd(one.id);
  workers.splice(0, 1);
  const three = { id: 3, metrics: createMetrics(), isSilent: false };
  expect(await valueOf(REQUESTS)).toBe(2);
  expect(await valueOf("tacenda_outdated_key_wraps")).toBe(0);
  expect(await valueOf("process_resident_memory_bytes")).toBeLessThan(memory);
  workers.push(three);
  three.metrics.observe("/livez", "GET", 200, 0.1);
  expect(await valueOf(REQUESTS)).toBe(3);
  sum.noteEnd(two.id);
  sum.noteEnd(three.id);
  workers.splice(0, 2);
  expect(await valueOf(REQUESTS)).toBe(3);
});

test("of one that does not answer the last values count, and two may ask at once", async () => {
  const { one, two, valueOf } = setUp();
  one.metrics.observe("/livez", "GET", 200, 0.1);
  two.metrics.observe("/livez", "GET", 200, 0.1);
  expect(await Promise.all([valueOf(REQUESTS), valueOf(REQUESTS)])).toEqual([2, 2]);
  one.isSilent = true;
  one.metrics.observe("/livez", "GET", 200, 0.1);
  two.metrics.observe("/livez", "GET", 200, 0.1);
  const answer = valueOf(REQUESTS);
  expect(await Promise.race([answer, sleep(500, "later")])).toBe("later");
  expect(await answer).toBe(3);
});
