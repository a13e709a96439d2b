/** What every database must do with quotas of projects and the count of their bytes; quota-store.ts, directory.ts. */

import { afterEach, beforeEach, expect, test } from "vitest";

import type { Database } from "../../src/storage/database.js";
import { VERSION_BYTES, type CountCursor } from "../../src/storage/quota-store.js";
import { bytes, createStore, newRef, newStore, newToken, write, writeVersions, type TestDatabase } from "./world.js";

const MAX = Number.MAX_SAFE_INTEGER;
const NONE = { maxStores: null, maxTokens: null, maxBytes: null };

export function quotasContract(create: () => Promise<TestDatabase>): void {
  let world: TestDatabase;
  let db: Database;
  beforeEach(async () => {
    world = await create();
    db = await world.open();
  });
  afterEach(async () => {
    await db.close();
    await world.remove();
  });

  test("quotas come back as they went in, change one by one, and go with their project", async () => {
    const { directory } = db;
    await directory.createProject({ id: "p", createdAt: 1, maxStores: 0, maxBytes: MAX });
    expect(await directory.updateProject("p", {})).toEqual({
      ...NONE,
      id: "p",
      createdAt: 1,
      maxStores: 0,
      maxBytes: MAX,
    });
    const changed = { ...NONE, id: "p", createdAt: 1, maxTokens: 5, maxBytes: MAX };
    expect(await directory.updateProject("p", { maxStores: null, maxTokens: 5 })).toEqual(changed);
    await db.close();
    db = await world.open();
    expect(await db.directory.listProjects()).toEqual([changed]);
    await db.directory.destroyProject("p", 2);
    expect(await db.directory.updateProject("p", { maxTokens: 6 })).toBeNull();
    expect(await db.quotas.boundedProjects()).toEqual([]);
  });

  test("stores and tokens are bounded exactly, of each project by itself", async () => {
    const { directory } = db;
    await directory.createProject({ id: "p", createdAt: 1, maxStores: 2, maxTokens: 2 });
    await directory.createProject({ id: "q", createdAt: 1 });
    const ids = ["a", "b", "c", "d", "e"];
    const stores = await Promise.all(ids.map((id) => directory.createStore("p", newStore(id), [])));
    const tokens = await Promise.all(ids.map((id) => directory.createToken(newToken(id))));
    for (const results of [stores, tokens]) {
      expect([...results].sort()).toEqual(["created", "created", "over_quota", "over_quota", "over_quota"]);
    }
    for (const id of ids) {
      expect(await directory.createStore("q", newStore(id), [])).toBe("created");
      expect(await directory.createToken(newToken(`q${id}`, { project: "q" }))).toBe("created");
    }
    const [made] = (await directory.listStores("p")) ?? [];
    await directory.destroyStore("p", made?.id ?? "", 1);
    expect(await directory.createStore("p", newStore("f"), [])).toBe("created");
    expect(await directory.createStore("p", newStore("g"), [])).toBe("over_quota");
  });

  test("bytes are counted in steps, of what was written in time, and of no other project", async () => {
    for (const [project, store] of [
      ["p", "s"],
      ["p", "t"],
      ["q", "s"],
    ] as const) {
      await createStore(db, project, store);
      for (let record = 0; record < 3; record++) await writeVersions(db, newRef(project, store), 2);
    }
    const late = { body: bytes(5_000), createdAt: 2_000, expiresAt: 0 };
    await db.records.commit([write(newRef("p", "s"), 1, { write: late })]);
    const count = async (until: number, maxRows: number) => {
      const steps: number[] = [];
      let cursor: CountCursor = null;
      do {
        const step = await db.quotas.countBytes("p", until, cursor, maxRows);
        steps.push(step.bytes);
        cursor = step.next;
      } while (cursor !== null);
      return { steps: steps.length, bytes: steps.reduce((sum, part) => sum + part, 0) };
    };
    const size = 100 + VERSION_BYTES;
    // Versions were written at 1,001 and 1,002, three records of each store.
    expect(await count(1_999, 100)).toEqual({ steps: 1, bytes: 12 * size });
    expect(await count(1_999, 5)).toEqual({ steps: 3, bytes: 12 * size });
    expect(await count(1_001, 1)).toEqual({ steps: 14, bytes: 6 * size });
    expect(await count(2_000, 13)).toEqual({ steps: 2, bytes: 12 * size + 5_000 + VERSION_BYTES });
    expect(await db.quotas.countBytes("none", MAX, null, 5)).toEqual({ bytes: 0, next: null });
  });

  test("a count is kept for projects whose bytes are bounded, and forgotten with the bound", async () => {
    const { directory, quotas } = db;
    await directory.createProject({ id: "p", createdAt: 1, maxBytes: 7 });
    await directory.createProject({ id: "q", createdAt: 1, maxStores: 7 });
    expect(await quotas.boundedProjects()).toEqual([{ project: "p", maxBytes: 7, count: null }]);
    const count = { bytes: MAX, at: 1, dueAt: 2 };
    for (const project of ["p", "q", "none"]) await quotas.keepCount(project, count);
    expect(await quotas.boundedProjects()).toEqual([{ project: "p", maxBytes: 7, count }]);
    await directory.updateProject("p", { maxBytes: 8 });
    await quotas.keepCount("p", { bytes: 5, at: 3, dueAt: 4 });
    expect(await quotas.boundedProjects()).toEqual([
      { project: "p", maxBytes: 8, count: { bytes: 5, at: 3, dueAt: 4 } },
    ]);
    await directory.updateProject("p", { maxBytes: null });
    expect(await quotas.boundedProjects()).toEqual([]);
    await directory.updateProject("p", { maxBytes: 9 });
    expect(await quotas.boundedProjects()).toEqual([{ project: "p", maxBytes: 9, count: null }]);
  });
}
