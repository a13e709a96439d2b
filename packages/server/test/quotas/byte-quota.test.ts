/** What a quota of bytes lets through, and what it refuses; spec/http.md § Quotas. */

import { MIN_RECORD_BYTES, RecordState } from "@tacenda/protocol";
import { expect, test } from "vitest";

import { ByteQuota, type MeasuredWrite, type PresentVersion } from "../../src/quotas/byte-quota.js";
import { VERSION_BYTES } from "../../src/storage/quota-store.js";

const SIZE = 1_000 + VERSION_BYTES;
const NOW = 1_800_000_000_000;

function write(length = 1_000, before: PresentVersion | null = null, more: Partial<MeasuredWrite> = {}): MeasuredWrite {
  const head = { state: RecordState.value };
  return { body: new Uint8Array(length), head, purgeEarlier: false, before, ...more };
}

const mark = (before: PresentVersion | null, more: Partial<MeasuredWrite> = {}) =>
  write(MIN_RECORD_BYTES, before, { head: { state: RecordState.tombstone }, ...more });

const value = (version: number, bytes = 1_000): PresentVersion => ({ version, bytes, isValue: true });

const admits = (quota: ByteQuota, ...writes: MeasuredWrite[]) => {
  try {
    return quota.admit(writes, 3);
  } catch (error) {
    return (error as { code: string }).code;
  }
};

test("what was counted and what was written since make up the limit, which can be reached and not passed", () => {
  const quota = new ByteQuota(5 * SIZE, { bytes: 2 * SIZE, at: NOW, dueAt: 0 });
  expect(admits(quota, write())).toBe(SIZE);
  quota.add(SIZE, NOW + 60_000);
  expect(admits(quota, write(), write(1_001))).toBe("quota_exceeded");
  expect(admits(quota, write(), write())).toBe(2 * SIZE);
  quota.add(2 * SIZE, NOW + 60_000);
  expect(admits(quota, write(0))).toBe("quota_exceeded");
});

test("a count takes the place of what was written before it, and a new limit that of the old", () => {
  const quota = new ByteQuota(10 * SIZE, null);
  quota.add(4 * SIZE, NOW);
  quota.add(4 * SIZE, NOW + 120_000);
  expect(admits(quota, write(), write(), write())).toBe("quota_exceeded");
  quota.update(10 * SIZE, { bytes: 2 * SIZE, at: NOW + 60_000, dueAt: 0 });
  expect(admits(quota, write(), write(), write(), write())).toBe(4 * SIZE);
  expect(admits(quota, write(), write(), write(), write(), write())).toBe("quota_exceeded");
  quota.update(SIZE, { bytes: 2 * SIZE, at: NOW + 60_000, dueAt: 0 });
  expect(admits(quota, write())).toBe("quota_exceeded");
});

test("what was written in the second in which a count began counts until the next count, though some of it is in this one", () => {
  const quota = new ByteQuota(10 * SIZE, null);
  quota.add(2 * SIZE, NOW + 200);
  quota.add(3 * SIZE, NOW + 800);
  for (const at of [NOW + 500, NOW + 999]) {
    quota.update(10 * SIZE, { bytes: 2 * SIZE, at, dueAt: 0 });
    expect(admits(quota, write(), write(), write())).toBe(3 * SIZE);
    expect(admits(quota, write(), write(), write(), write())).toBe("quota_exceeded");
  }
  quota.update(10 * SIZE, { bytes: 5 * SIZE, at: NOW + 1_000, dueAt: 0 });
  expect(admits(quota, write(), write(), write(), write(), write())).toBe(5 * SIZE);
});

test("a write that deletes an earlier version adds only what is more, but over the limit none is let through", () => {
  const quota = new ByteQuota(2 * SIZE, { bytes: 2 * SIZE - 10, at: NOW, dueAt: 0 });
  expect(admits(quota, write(1_000, value(2)))).toBe("quota_exceeded");
  expect(admits(quota, write(1_010, value(3)))).toBe(10);
  expect(admits(quota, write(1_011, value(3)))).toBe("quota_exceeded");
  expect(admits(quota, write(1_000, value(1, 5_000), { purgeEarlier: true }))).toBe(-4_000);
  quota.add(10, NOW + 60_000);
  expect(admits(quota, write(1_000, value(3)))).toBe("quota_exceeded");
  quota.add(-10, NOW + 60_000);
  expect(admits(quota, write(1_000, value(3)))).toBe(0);
});

test("over the limit deletions go on, and nothing that only looks like one", () => {
  const quota = new ByteQuota(0, null);
  const deleted: PresentVersion = { version: 2, bytes: MIN_RECORD_BYTES, isValue: false };
  const adds = MIN_RECORD_BYTES + VERSION_BYTES;
  expect(admits(quota, mark(value(1)))).toBe(adds);
  expect(admits(quota, mark(value(1), { head: { state: RecordState.moved } }))).toBe(adds);
  expect(admits(quota, mark(deleted, { purgeEarlier: true }))).toBe(0);
  // Marks over marks, marks of what never was, and marks that hold something would fill the disk.
  expect(admits(quota, mark(deleted))).toBe("quota_exceeded");
  expect(admits(quota, mark(null))).toBe("quota_exceeded");
  expect(admits(quota, mark(value(1), { body: new Uint8Array(MIN_RECORD_BYTES + 1) }))).toBe("quota_exceeded");
  expect(admits(quota, mark(value(1)), write())).toBe("quota_exceeded");
});

test("what is remembered of the past is bounded, and nothing of it is lost", () => {
  const quota = new ByteQuota(1_000_000, null);
  for (let piece = 0; piece < 5_000; piece++) quota.add(100, NOW + piece * 1_000);
  expect(admits(quota, write(500_000 - VERSION_BYTES))).toBe(500_000);
  expect(admits(quota, write(500_001 - VERSION_BYTES))).toBe("quota_exceeded");
});
