import { setImmediate } from "node:timers/promises";

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
  test("of single records go together, and each gets its own", async () => {
    const { queue, groups } = makeQueue(10);
    const names = ["a", "absent", "b", "a"];
    const found = await Promise.all(names.map((name) => queue.read([ref(name)])));
    expect(found).toEqual([[record("a")], [null], [record("b")], [record("a")]]);
    expect(groups).toEqual([names]);
  });

  test("go in several groups beyond the limit", async () => {
    const { queue, groups } = makeQueue(2);
    await Promise.all(["a", "b", "c"].map((name) => queue.read([ref(name)])));
    expect(groups).toEqual([["a", "b"], ["c"]]);
  });

  test("of several records have a turn each, and others come in between", async () => {
    const { queue, groups } = makeQueue(10);
    const several = [
      queue.read([ref("a"), ref("absent")]),
      queue.read([ref("b"), ref("c")]),
      queue.read([ref("d"), ref("e")]),
    ];
    const between = setImmediate().then(() => queue.read([ref("f")]));
    expect(await Promise.all(several)).toEqual([
      [record("a"), null],
      [record("b"), record("c")],
      [record("d"), record("e")],
    ]);
    expect(await between).toEqual([record("f")]);
    expect(groups.slice(0, 2)).toEqual([["a", "absent"], ["f"]]);
    expect(groups.slice(2)).toEqual([
      ["b", "c"],
      ["d", "e"],
    ]);
  });

  test("fail with their group, and no other", async () => {
    const { queue } = makeQueue(2);
    const names = ["a", "broken", "c"];
    const [one, other, third] = await Promise.allSettled(names.map((name) => queue.read([ref(name)])));
    expect([one?.status, other?.status, third?.status]).toEqual(["rejected", "rejected", "fulfilled"]);
  });

  test("of a later turn see what was committed in between", async () => {
    const { queue, groups } = makeQueue(10);
    await queue.read([ref("a")]);
    await queue.read([ref("a")]);
    expect(groups).toEqual([["a"], ["a"]]);
  });
});
