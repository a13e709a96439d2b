/** Deleting, destroying, restoring, expiring and protecting, from outside. */

import {
  ConfigurationError,
  ConflictError,
  PermissionDeniedError,
  RecordInactiveError,
  RecordProtectedError,
  VersionNotFoundError,
} from "@tacenda/sdk";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { type World, openWorld } from "../world.js";

let world: World;
const clock = { now: Date.now() };
beforeAll(async () => void (world = await openWorld({ now: () => clock.now })));
afterAll(() => world[Symbol.asyncDispose]());

describe("deleteValue", () => {
  test("takes the value away, and a restored version brings it back with its metadata", async () => {
    const store = world.store();
    await store.setValue("a", "v", { metadata: { m: 1 } });
    expect(await store.deleteValue("a")).toEqual({ version: 2 });
    expect(await world.store().getValue("a")).toBeNull();
    expect(await world.store().getEntry("a")).toMatchObject({ state: "deleted", version: 2 });
    expect(await store.restoreVersion("a", 1)).toEqual({ version: 3 });
    expect(await world.store().getEntry("a")).toMatchObject({ value: "v", metadata: { m: 1 }, version: 3 });
  });

  test("gives null where there is nothing to delete", async () => {
    const store = world.store();
    expect(await store.deleteValue("never")).toBeNull();
    expect(await store.getEntry("never")).toBeNull();
    await store.setValue("twice", "v");
    await store.deleteValue("twice");
    expect(await store.deleteValue("twice")).toBeNull();
  });

  test("binds to a version", async () => {
    await world.store().setValue("bound", "v");
    await expect(world.store().deleteValue("bound", { ifVersion: 2 })).rejects.toThrow(ConflictError);
    await expect(world.store().deleteValue("unbound", { ifVersion: 1 })).rejects.toThrow(ConflictError);
    expect(await world.store().deleteValue("bound", { ifVersion: 1 })).toEqual({ version: 2 });
  });

  test("needs the permission", async () => {
    const { token } = await world.admin.tokens.create("t", [{ stores: ["*"], permissions: ["read", "write"] }]);
    await world.store().setValue("kept", "v");
    await expect(world.store({ token }).deleteValue("kept")).rejects.toThrow(PermissionDeniedError);
    expect(await world.store().getValue("kept")).toBe("v");
  });

  test("goes on when a writer comes in between", async () => {
    const store = world.store();
    await store.setValue("contended", "1");
    const [deleted] = await Promise.all([store.deleteValue("contended"), world.store().setValue("contended", "2")]);
    expect(deleted).not.toBeNull();
    const entry = await world.store().getEntry("contended");
    expect(entry?.version).toBe(3);
  });
});

describe("destroyValue", () => {
  test("takes the value and all earlier versions away", async () => {
    const store = world.store();
    await store.setValue("b", "1");
    await store.setValue("b", "2");
    expect(await store.destroyValue("b")).toEqual({ version: 3 });
    expect(await store.getValue("b")).toBeNull();
    expect((await store.listVersions("b")).map(({ version }) => version)).toEqual([3]);
    for (const version of [1, 2]) {
      expect(await store.getEntry("b", { version })).toBeNull();
      await expect(store.restoreVersion("b", version)).rejects.toThrow(VersionNotFoundError);
    }
    expect(await store.setValue("b", "again")).toEqual({ version: 4 });
  });

  test("also destroys what was merely deleted", async () => {
    const store = world.store();
    await store.setValue("c", "1");
    await store.deleteValue("c");
    expect(await store.destroyValue("c")).toEqual({ version: 3 });
    expect(await store.getEntry("c", { version: 1 })).toBeNull();
    expect(await store.destroyValue("never")).toBeNull();
  });
});

describe("versions", () => {
  test("are listed, read one by one, and kept as many as the store says", async () => {
    const store = world.store();
    for (let index = 1; index <= 12; index++) await store.setValue("d", `value ${index}`);
    const versions = await store.listVersions("d");
    expect(versions.map(({ version }) => version)).toEqual([12, 11, 10, 9, 8, 7, 6, 5, 4, 3]);
    for (const { claimed } of versions) expect(claimed).toEqual({ createdAt: new Date(clock.now), size: 347 });
    expect(await store.getValue("d", { version: 3 })).toBe("value 3");
    expect(await store.getValue("d", { version: 2 })).toBeNull();
    expect(await store.getValue("d", { version: 13 })).toBeNull();
    expect(await store.getBytes("d", { version: 12 })).toEqual(new TextEncoder().encode("value 12"));
    expect(await store.listVersions("never")).toEqual([]);
    await expect(store.getValue("d", { version: 0 })).rejects.toThrow(ConfigurationError);
  });

  test("reading an old one does not make the client believe in it", async () => {
    const store = world.store();
    await store.setValue("e", "1");
    await store.setValue("e", "2");
    const fresh = world.store();
    expect(await fresh.getValue("e", { version: 1 })).toBe("1");
    expect(await fresh.getValue("e")).toBe("2");
    expect(await fresh.getValue("e", { version: 1 })).toBe("1");
  });

  test("a restore can be bound to the current version", async () => {
    const store = world.store();
    await store.setValue("f", "1");
    await store.setValue("f", "2");
    await expect(store.restoreVersion("f", 1, { ifVersion: 1 })).rejects.toThrow(ConflictError);
    expect(await store.restoreVersion("f", 1, { ifVersion: 2 })).toEqual({ version: 3 });
  });
});

describe("expiry", () => {
  test("a value is there until it expires, and then provably is not", async () => {
    const store = world.store();
    await store.setValue("g", "v", { expiresIn: "30d" });
    const entry = await store.getEntry("g");
    const expiresAt = entry?.expiresAt?.getTime() ?? 0;
    expect(Math.abs(expiresAt - Date.now() - 30 * 86_400_000)).toBeLessThan(5_000);
    clock.now = expiresAt;
    try {
      // Our own clock has not come to it, so a server whose clock runs a month ahead is not believed.
      await expect(store.getValue("g")).rejects.toMatchObject({ code: "protocol" });
    } finally {
      clock.now = Date.now();
    }
    const soon = new Date(Date.now() + 1_500);
    await store.setValue("h", "v", { expiresAt: soon });
    expect(await store.getValue("h")).toBe("v");
    await new Promise((resolve) => setTimeout(resolve, 1_550));
    clock.now = Date.now();
    expect(await world.store().getEntry("h")).toEqual({ state: "expired", value: null, version: 1, expiresAt: soon });
    expect(await store.deleteValue("h")).toBeNull();
    expect(await store.createValue("h", "again")).toEqual({ version: 2 });
    expect((await store.getEntry("h"))?.expiresAt).toBeNull();
  });

  test.each([
    { expiresIn: "soon" },
    { expiresIn: 0 },
    { expiresIn: -1 },
    { expiresIn: Infinity },
    { expiresIn: "0d" },
    { expiresAt: new Date(0) },
    { expiresAt: new Date(NaN) },
    { expiresIn: "1d", expiresAt: new Date(Date.now() + 1e6) },
  ])("%j is refused", async (options) => {
    await expect(world.store().setValue("never", "v", options as object)).rejects.toThrow(ConfigurationError);
    expect(await world.store().getEntry("never")).toBeNull();
  });
});

describe("what the server enforces", () => {
  test("a protected entry can be written, but neither deleted nor destroyed", async () => {
    const store = world.store();
    await store.setValue("i", "1");
    expect(await store.setProtected("i", true)).toBe(true);
    await expect(store.deleteValue("i")).rejects.toThrow(RecordProtectedError);
    await expect(store.destroyValue("i")).rejects.toThrow(RecordProtectedError);
    expect(await store.setValue("i", "2")).toEqual({ version: 2 });
    expect(await store.getEntry("i")).toMatchObject({ value: "2", claimed: { protected: true } });
    await expect(store.setProtected("i", false)).rejects.toThrow(PermissionDeniedError);
    const { token } = await world.admin.tokens.create("m", [{ stores: ["*"], permissions: ["manage"] }]);
    expect(await world.store({ token }).setProtected("i", false)).toBe(true);
    expect(await store.deleteValue("i")).toEqual({ version: 3 });
  });

  test("an inactive entry cannot be read until it is active again, also by a fresh client", async () => {
    await world.store().setValue("j", "1");
    await world.store().setValue("j", "2");
    expect(await world.store().setActive("j", false)).toBe(true);
    await expect(world.store().getValue("j")).rejects.toThrow(RecordInactiveError);
    expect(await world.store().setActive("j", true)).toBe(true);
    expect(await world.store().getValue("j")).toBe("2");
    expect(await world.store().setActive("never", true)).toBe(false);
    expect(await world.store().setProtected("never", true)).toBe(false);
  });
});
