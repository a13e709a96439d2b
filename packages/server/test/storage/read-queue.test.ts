import { describe, expect, test } from "vitest";

import { ReadQueue } from "../../src/storage/read-queue.ts";
import type { ReadRef, StoredRecord } from "../../src/storage/record-store.ts";

function ref(name: string): ReadRef {
  return { project: "p", store: "s", id: Buffer.from(name) };
}

function record(name: string): StoredRecord {
  return {
    current: { version: 1, protected: false, active: true },
    kept: { version: 1, body: Buffer.from(name), createdAt: 1 },
  };
}

/** A queue over records named as their ids, but for "absent", and the names that went together each time. */
function makeQueue(limit: number) {
  const groups: string[][] = [];
  const queue = new ReadQueue((refs) => {
    const names = refs.map(({ id }) => Buffer.from(id).toString());
    groups.push(names);
    if (names.includes("broken")) return Promise.reject(new Error("broken"));
    return Promise.resolve(names.map((name) => (name === "absent" ? null : record(name))));
  }, limit);
  return { queue, groups };
}

describe("reads of one turn", () => {
  test("go together, and each gets its own records in its order", async () => {
    const { queue, groups } = makeQueue(10);
    const found = await Promise.all([
      queue.read([ref("a")]),
      queue.read([ref("b"), ref("absent"), ref("a")]),
      queue.read([ref("absent")]),
    ]);
    expect(found).toEqual([[record("a")], [record("b"), null, record("a")], [null]]);
    expect(groups).toEqual([["a", "b", "absent", "a", "absent"]]);
  });

  test("go in several groups beyond the limit, and none is split", async () => {
    const { queue, groups } = makeQueue(3);
    await Promise.all([queue.read([ref("a"), ref("b")]), queue.read([ref("c"), ref("d")]), queue.read([ref("e")])]);
    expect(groups).toEqual([
      ["a", "b"],
      ["c", "d", "e"],
    ]);
  });

  test("fail with their group, and no other", async () => {
    const { queue } = makeQueue(2);
    const [one, other, third] = await Promise.allSettled([
      queue.read([ref("a")]),
      queue.read([ref("broken")]),
      queue.read([ref("c"), ref("d")]),
    ]);
    expect([one.status, other.status, third.status]).toEqual(["rejected", "rejected", "fulfilled"]);
  });

  test("of a later turn see what was committed in between", async () => {
    const { queue, groups } = makeQueue(10);
    await queue.read([ref("a")]);
    await queue.read([ref("a")]);
    expect(groups).toEqual([["a"], ["a"]]);
  });
});
