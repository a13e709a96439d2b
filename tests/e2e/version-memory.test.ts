/** A server whose database is put back to an older copy, under clients that remember, in one process and across two. */

import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { RollbackError, Tacenda, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { openVersionMemory } from "@tacenda/sdk/version-memory";
import { startServer } from "@tacenda/server";
import BetterSqlite3 from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";

const rootToken = "root-token-of-the-tests-0123456789abcdef";
const secret = generateSecret();

let folder: string;
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), "tacenda-rollback-"))));
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const dataDir = () => join(folder, "data");

/** Runs the server for as long as `use` takes. A `fetch` that finds it, whatever its port, stays the same client's. */
async function serving(use: () => Promise<void>): Promise<void> {
  const server = await startServer({ dataDir: dataDir(), port: 0, rootToken });
  target = server.url;
  try {
    await use();
  } finally {
    await server.close();
  }
}

let target = "";
const fetch: typeof globalThis.fetch = (input, init) => {
  const request = new Request(input, init);
  const { pathname, search } = new URL(request.url);
  return globalThis.fetch(new Request(target + pathname + search, request));
};

const options = { url: "http://127.0.0.1:1", token: rootToken, fetch };
const storeOf = (more = {}) => new Tacenda({ ...options, ...more }).getStore("s", { secret });

test("yesterday's database is a RollbackError to the client that lived through it, and to the next process", async () => {
  const marks = join(folder, "marks.db");
  const living = storeOf();
  const first = openVersionMemory(marks);
  const remembering = storeOf({ versionMemory: first });
  await serving(async () => {
    await new TacendaAdmin(options).stores.create("s");
    await living.setValue("k", "yesterday");
    expect(await remembering.getValue("k")).toBe("yesterday");
  });
  cpSync(dataDir(), join(folder, "backup"), { recursive: true });
  await serving(async () => {
    await living.setValue("k", "today");
    expect(await remembering.getValue("k")).toBe("today");
  });
  first.close();
  rmSync(dataDir(), { recursive: true });
  cpSync(join(folder, "backup"), dataDir(), { recursive: true });
  await serving(async () => {
    await expect(living.getValue("k")).rejects.toThrow(RollbackError);
    const nextProcess = openVersionMemory(marks);
    const store = storeOf({ versionMemory: nextProcess });
    await expect(store.getValue("k")).rejects.toThrow(RollbackError);
    // A client that never saw today cannot know.
    expect(await storeOf().getValue("k")).toBe("yesterday");
    // The old state grows to the same version number: another record of it is a rollback too.
    await storeOf().setValue("k", "another today");
    await expect(living.getValue("k")).rejects.toThrow(RollbackError);
    await expect(store.getValue("k")).rejects.toThrow(RollbackError);
    // After an honest restore one says so.
    await store.forgetMark("k");
    expect(await store.getValue("k")).toBe("another today");
    nextProcess.close();
  });
});

test("a row deleted straight from the database is a RollbackError, not null", async () => {
  const store = storeOf();
  await serving(async () => {
    await new TacendaAdmin(options).stores.create("s");
    await store.setValue("k", "v");
    const database = new BetterSqlite3(join(dataDir(), "tacenda.db"));
    database.exec("delete from record_versions; delete from records");
    database.close();
    await expect(store.getValue("k")).rejects.toThrow(RollbackError);
    await expect(store.setValue("k", "w")).rejects.toThrow(RollbackError);
    expect(await storeOf().getValue("k")).toBeNull();
  });
});
