/** What every database must do with projects, stores, keys, tokens and settings; directory.ts. */

import { afterEach, beforeEach, describe, expect, test } from "vitest";

import type { Database } from "../../src/storage/database.js";
import { bytes, createStore, newStore, newToken, wrappedKey, type TestDatabase } from "./world.js";

const UNBOUNDED = { maxStores: null, maxTokens: null, maxBytes: null };
const MAX = Number.MAX_SAFE_INTEGER;

export function directoryContract(create: () => Promise<TestDatabase>): void {
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

  describe("projects and stores", () => {
    test("projects are created once, listed by id, and found", async () => {
      const { directory } = db;
      expect(await directory.createProject({ id: "b", createdAt: MAX })).toBe("created");
      expect(await directory.createProject({ id: "a", createdAt: 2 })).toBe("created");
      expect(await directory.createProject({ id: "a", createdAt: 3 })).toBe("exists");
      expect(await directory.listProjects()).toEqual([
        { id: "a", createdAt: 2, ...UNBOUNDED },
        { id: "b", createdAt: MAX, ...UNBOUNDED },
      ]);
      expect([await directory.hasProject("a"), await directory.hasProject("c")]).toEqual([true, false]);
    });

    test("one of many creations at once wins", async () => {
      const results = await Promise.all(
        Array.from({ length: 20 }, (_, createdAt) => db.directory.createProject({ id: "a", createdAt })),
      );
      expect(results.filter((result) => result === "created")).toHaveLength(1);
      expect(results.filter((result) => result === "exists")).toHaveLength(19);
    });

    test("stores belong to one project", async () => {
      const { directory } = db;
      await directory.createProject({ id: "p", createdAt: 1 });
      await directory.createProject({ id: "q", createdAt: 1 });
      const store = { ...newStore("s"), secrets: "any" as const, maxVersions: 1_000 };
      expect(await directory.createStore("p", store, [])).toBe("created");
      expect(await directory.createStore("p", store, [])).toBe("exists");
      expect(await directory.createStore("r", store, [])).toBe("no_project");
      expect(await directory.getStore("p", "s")).toStrictEqual(store);
      expect(await directory.getStore("q", "s")).toBeNull();
      expect(await directory.getStore("p", "t")).toBeNull();
      expect(await directory.listStores("p")).toEqual([store]);
      expect(await directory.listStores("q")).toEqual([]);
      expect(await directory.listStores("r")).toBeNull();
    });

    test("settings change one by one", async () => {
      await createStore(db);
      const { directory } = db;
      expect(await directory.updateStore("p", "s", { maxVersions: 3 })).toEqual({ ...newStore("s"), maxVersions: 3 });
      expect(await directory.updateStore("p", "s", {})).toEqual({ ...newStore("s"), maxVersions: 3 });
      await directory.updateStore("p", "s", { secrets: "any" });
      expect(await directory.getStore("p", "s")).toEqual({ ...newStore("s"), maxVersions: 3, secrets: "any" });
      expect(await directory.updateStore("p", "t", { maxVersions: 3 })).toBeNull();
    });

    test("wrapped keys come back as they went in", async () => {
      const { directory } = db;
      await directory.createProject({ id: "p", createdAt: 1 });
      const keys = [
        wrappedKey("data", { version: 1, state: "retired", masterVersion: MAX }),
        wrappedKey("data", { version: 2, provider: "local:b" }),
        wrappedKey("index"),
      ];
      await directory.createStore("p", newStore("s"), keys);
      expect(await db.keys.wrappedKeys("p", "s")).toStrictEqual(keys);
      expect(await db.keys.wrappedKeys("p", "t")).toEqual([]);
    });

    test("a destroyed store is gone with its keys, and its id is retired", async () => {
      await createStore(db);
      await createStore(db, "p", "other");
      const { directory } = db;
      expect(await directory.destroyStore("p", "nothing", 9)).toBeNull();
      expect(await directory.destroyStore("p", "s", 9)).toHaveLength(2);
      expect(await directory.destroyStore("p", "s", 9)).toBeNull();
      expect(await directory.getStore("p", "s")).toBeNull();
      expect(await directory.updateStore("p", "s", { maxVersions: 3 })).toBeNull();
      expect((await directory.listStores("p"))?.map(({ id }) => id)).toEqual(["other"]);
      expect(await db.keys.wrappedKeys("p", "s")).toEqual([]);
      expect(await db.keys.wrappedKeys("p", "other")).toHaveLength(2);
      expect(await directory.createStore("p", newStore("s"), [])).toBe("retired");
    });

    test("a destroyed project takes stores, keys and tokens with it, and its id is retired", async () => {
      await createStore(db, "p");
      await createStore(db, "q");
      const { directory } = db;
      await directory.createToken(newToken("a"));
      await directory.createToken(newToken("b", { mintedBy: "a" }));
      await directory.createToken(newToken("c", { project: "q" }));
      expect(await directory.destroyProject("r", 9)).toBe(false);
      expect(await directory.destroyProject("p", 9)).toBe(true);
      expect(await directory.destroyProject("p", 9)).toBe(false);
      expect(await directory.hasProject("p")).toBe(false);
      expect((await directory.listProjects()).map(({ id }) => id)).toEqual(["q"]);
      expect(await directory.getStore("p", "s")).toBeNull();
      expect(await directory.listStores("p")).toBeNull();
      expect(await directory.listTokens("p")).toBeNull();
      expect(await db.keys.wrappedKeys("p", "s")).toEqual([]);
      expect([await directory.findToken("a"), await directory.findToken("b")]).toEqual([null, null]);
      expect(await directory.createProject({ id: "p", createdAt: 1 })).toBe("retired");
      expect(await directory.createStore("p", newStore("t"), [])).toBe("no_project");
      expect(await directory.createToken(newToken("d"))).toBe("gone");
      expect(await db.keys.wrappedKeys("q", "s")).toHaveLength(2);
      expect((await directory.findToken("c"))?.grants).toHaveLength(1);
      await db.close();
      db = await world.open();
      expect(await db.directory.createProject({ id: "p", createdAt: 1 })).toBe("retired");
    });
  });

  describe("tokens", () => {
    beforeEach(async () => {
      await db.directory.createProject({ id: "p", createdAt: 1 });
      await db.directory.createProject({ id: "q", createdAt: 1 });
    });

    test("come back as they went in", async () => {
      const token = newToken("a", {
        expiresAt: MAX,
        grants: [
          { stores: ["b*", "a"], permissions: ["write", "read"] },
          { stores: ["*"], permissions: ["manage"] },
        ],
      });
      expect(await db.directory.createToken(token)).toBe("created");
      expect(await db.directory.findToken("a")).toStrictEqual({ ...token, lastUsedAt: null });
      expect(await db.directory.findToken("b")).toBeNull();
      expect(await db.directory.createToken(newToken("b", { project: "nothing" }))).toBe("gone");
    });

    test("are listed per project", async () => {
      const tokens = [newToken("a"), newToken("c", { createdAt: 20 }), newToken("b", { createdAt: 30, grants: [] })];
      for (const token of [...tokens].reverse()) await db.directory.createToken(token);
      await db.directory.createToken(newToken("x", { project: "q" }));
      expect(await db.directory.listTokens("p")).toStrictEqual(tokens.map((token) => ({ ...token, lastUsedAt: null })));
      expect(await db.directory.listTokens("r")).toBeNull();
      await db.directory.deleteToken("q", "x");
      expect(await db.directory.listTokens("q")).toEqual([]);
    });

    test("have a last use, the latest that anybody noted, and one that is gone has none", async () => {
      const { directory } = db;
      for (const id of ["a", "b", "c"]) await directory.createToken(newToken(id));
      const lastUses = async () =>
        Object.fromEntries(((await directory.listTokens("p")) ?? []).map(({ id, lastUsedAt }) => [id, lastUsedAt]));
      await directory.noteTokenUses([]);
      expect(await lastUses()).toEqual({ a: null, b: null, c: null });
      await Promise.all([
        directory.noteTokenUses([
          { id: "b", at: 2 },
          { id: "a", at: MAX },
        ]),
        directory.noteTokenUses([
          { id: "a", at: 1 },
          { id: "b", at: 3 },
          { id: "gone", at: 5 },
        ]),
        directory.deleteToken("p", "c"),
        directory.noteTokenUses([{ id: "c", at: 4 }]),
      ]);
      expect(await lastUses()).toEqual({ a: MAX, b: 3 });
      expect((await directory.findToken("b"))?.lastUsedAt).toBe(3);
      expect(await directory.findToken("gone")).toBeNull();
    });

    test("die with the token that minted them, however far up, and nothing else does", async () => {
      const minters = { a: null, b: "a", c: "b", d: "b", e: "c", f: null, g: "f" };
      for (const [id, mintedBy] of Object.entries(minters)) await db.directory.createToken(newToken(id, { mintedBy }));
      expect(await db.directory.deleteToken("q", "b")).toBe(false);
      expect(await db.directory.deleteToken("p", "nothing")).toBe(false);
      expect(await db.directory.deleteToken("p", "b")).toBe(true);
      expect(await db.directory.deleteToken("p", "e")).toBe(false);
      expect((await db.directory.listTokens("p"))?.map(({ id }) => id)).toEqual(["a", "f", "g"]);
      expect((await db.directory.findToken("g"))?.grants).toEqual([{ stores: ["*"], permissions: ["read"] }]);
      // Its grants went too: another token of that id has its own only.
      await db.directory.createToken(newToken("b", { grants: [{ stores: ["x"], permissions: ["delete"] }] }));
      expect((await db.directory.findToken("b"))?.grants).toEqual([{ stores: ["x"], permissions: ["delete"] }]);
    });

    test("cannot be minted by a token that was deleted meanwhile, or by another project's", async () => {
      await db.directory.createToken(newToken("a"));
      await db.directory.createToken(newToken("x", { project: "q" }));
      const [, minted] = await Promise.all([
        db.directory.deleteToken("p", "a"),
        db.directory.createToken(newToken("b", { mintedBy: "a" })),
      ]);
      expect(minted).toBe("gone");
      expect(await db.directory.createToken(newToken("c", { mintedBy: "x" }))).toBe("gone");
      expect(await db.directory.listTokens("p")).toEqual([]);
    });
  });

  test("settings of the server are kept and replaced", async () => {
    expect(await db.directory.getSetting("a")).toBeNull();
    await db.directory.setSetting("a", "1");
    await db.directory.setSetting("b", "2");
    await db.directory.setSetting("a", "");
    await db.close();
    db = await world.open();
    expect([await db.directory.getSetting("a"), await db.directory.getSetting("b")]).toEqual(["", "2"]);
    expect(await db.directory.replaceSetting("a", "1", "3")).toBe(false);
    expect(await db.directory.replaceSetting("a", null, "3")).toBe(false);
    expect(await db.directory.replaceSetting("c", "1", "3")).toBe(false);
    expect(await db.directory.replaceSetting("a", "", "3")).toBe(true);
    expect(await db.directory.replaceSetting("c", null, "4")).toBe(true);
    const kept = await Promise.all(["a", "b", "c"].map((name) => db.directory.getSetting(name)));
    expect(kept).toEqual(["3", "2", "4"]);
  });

  test("a setting is replaced only by who knows what it is, and by one of several at once", async () => {
    const { directory } = db;
    expect(await directory.replaceSetting("a", "0", "1")).toBe(false);
    expect(await directory.replaceSetting("a", null, "1")).toBe(true);
    expect(await directory.replaceSetting("a", null, "2")).toBe(false);
    const results = await Promise.all(
      ["3", "4", "5"].map(async (value) => ({ value, won: await directory.replaceSetting("a", "1", value) })),
    );
    const winners = results.filter(({ won }) => won);
    expect(winners).toHaveLength(1);
    expect(await directory.getSetting("a")).toBe(winners[0]?.value);
  });

  describe("secret checks", () => {
    const check = (createdAt: number) => ({ digest: bytes(32), createdAt });

    test("are replaced only by who knows what there is, and go with their store", async () => {
      for (const store of ["s", "t"]) await createStore(db, "p", store);
      const { directory } = db;
      const [one, two, three] = [check(1), check(2), check(3)];
      expect(await directory.secretChecks("p", "s")).toEqual([]);
      expect(await directory.replaceSecretChecks("p", "s", [one], [two])).toBe(false);
      expect(await directory.replaceSecretChecks("p", "s", [], [one])).toBe(true);
      for (const stale of [[], [two], [one, two]]) {
        expect(await directory.replaceSecretChecks("p", "s", stale, [three])).toBe(false);
      }
      expect(await directory.replaceSecretChecks("p", "s", [one], [one, two])).toBe(true);
      expect(await directory.replaceSecretChecks("p", "s", [two, one], [])).toBe(false);
      expect(await directory.secretChecks("p", "s")).toStrictEqual([one, two]);
      expect(await directory.secretChecks("p", "t")).toEqual([]);
      expect(await directory.replaceSecretChecks("p", "s", [one, two], [two])).toBe(true);
      expect(await directory.secretChecks("p", "s")).toStrictEqual([two]);
      await directory.destroyStore("p", "s", 9);
      expect(await directory.secretChecks("p", "s")).toEqual([]);
      expect(await directory.replaceSecretChecks("p", "s", [], [one])).toBe(false);
      expect(await directory.replaceSecretChecks("p", "nothing", [], [one])).toBe(false);
    });

    test("of many who register the first, one does", async () => {
      await createStore(db);
      const checks = Array.from({ length: 8 }, (_, index) => check(index));
      const done = await Promise.all(checks.map((each) => db.directory.replaceSecretChecks("p", "s", [], [each])));
      expect(done.filter(Boolean)).toHaveLength(1);
      expect(await db.directory.secretChecks("p", "s")).toEqual([checks[done.indexOf(true)]]);
    });
  });
}
