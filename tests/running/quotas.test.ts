/** Quotas of projects from outside: exact for stores and tokens, coarse for bytes, and silent about how much there is; spec/http.md § Quotas. */

import { QuotaExceededError, Tacenda, TacendaError, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { startServer } from "@tacenda/server";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";

import { DATABASES, freshPlace, sharedCluster, type DatabaseName, type Place } from "../reliability/databases.ts";

const ROOT_TOKEN = "root-token-of-the-quota-test-0123456789abcdef";
const KIB = 1_024;
/** Longer than a look, a count and the next look take. */
const PATIENCE = { timeout: 15_000, interval: 50 };

async function start({ dataDir, databaseUrl }: Place) {
  const place = { dataDir, ...(databaseUrl !== null && { databaseUrl }) };
  const server = await startServer({
    ...place,
    port: 0,
    rootToken: ROOT_TOKEN,
    quotaInterval: 50,
    countInterval: 1_000,
  });
  onTestFinished(() => server.close());
  return server;
}

/** A server with a store in the project "acme" that may hold so many bytes. */
async function open(database: DatabaseName, maxBytes: number | null) {
  const place = await freshPlace(database);
  const { url } = await start(place);
  const admin = new TacendaAdmin({ url, token: ROOT_TOKEN, project: "acme" });
  await admin.projects.create("acme", { maxBytes });
  await admin.stores.create("s", { maxVersions: 2 });
  const { token } = await admin.tokens.create("t", [{ stores: ["*"], permissions: ["read", "write", "delete"] }]);
  const secret = generateSecret();
  const storeAt = (at: string) =>
    new Tacenda({ url: at, token, project: "acme" }).getStore("s", { secret, stretch: "store" });
  return { place, url, admin, token, store: storeAt(url), storeAt };
}

/** Writes values of a KiB under names that begin so until one is refused, and gives their number; at most `most`. */
async function fill(store: ReturnType<Tacenda["getStore"]>, name: string, most = 200): Promise<number> {
  for (let count = 0; count < most; count++) {
    try {
      await store.setValue(`${name}${count}`, "x".repeat(KIB));
    } catch (error) {
      expect(error).toBeInstanceOf(QuotaExceededError);
      expect((error as TacendaError).retryable).toBe(false);
      return count;
    }
  }
  return most;
}

/** So many values of a KiB, to be written in one request. */
const values = (name: string, count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`${name}${index}`, "x".repeat(KIB)]));

// Outside the time of the first test.
beforeAll(async () => {
  await sharedCluster();
}, 120_000);

describe.each(DATABASES)("on %s", { timeout: 120_000 }, (database) => {
  test("stores and tokens are refused past their number, with a typed error", async () => {
    const { admin } = await open(database, null);
    expect(await admin.projects.update("acme", { maxStores: 2, maxTokens: 2 })).toMatchObject({
      id: "acme",
      maxStores: 2,
      maxTokens: 2,
      maxBytes: null,
    });
    const made = await Promise.allSettled(["a", "b", "c"].map((id) => admin.stores.create(id)));
    expect(made.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    await admin.tokens.create("u", [{ stores: ["*"], permissions: ["read"] }]);
    const refused = admin.tokens.create("v", [{ stores: ["*"], permissions: ["read"] }]);
    await expect(refused).rejects.toMatchObject({ code: "quota_exceeded", retryable: false });
    await expect(admin.projects.update("nobody", { maxStores: 1 })).rejects.toMatchObject({ code: "store_not_found" });
  });

  test("bytes are bounded; over the bound one reads and deletes, and what is destroyed makes room", async () => {
    const { store, admin } = await open(database, 50 * KIB);
    const written = await fill(store, "k");
    // A value of a KiB takes between one and two KiB with all that is about it; a count misses what was written in its moment.
    expect(written).toBeGreaterThan(25);
    expect(written).toBeLessThan(150);
    // A count in between may have missed what was written in its own moment; the next one has it.
    await expect.poll(() => fill(store, "k", 1), PATIENCE).toBe(0);
    await expect(store.setValues({ a: "1", b: "2".repeat(4 * KIB) })).rejects.toThrow(QuotaExceededError);
    expect(await store.getValue("a")).toBeNull();
    expect(await store.getValue("k0")).toBe("x".repeat(KIB));
    expect(await store.deleteValue("k1")).toEqual({ version: 2 });
    await store.setProtected("k2", true);
    for (let key = 3; key < written; key++) await store.destroyValue(`k${key}`);
    // What is gone is seen when it was counted, and only then can the bound be relied on again.
    await expect.poll(() => fill(store, "again"), PATIENCE).toBeGreaterThan(0);
    await admin.projects.update("acme", { maxBytes: null });
    expect(await fill(store, "free", 60)).toBe(60);
  });

  test("what was there before the bound counts, once it was counted", async () => {
    const { store, admin } = await open(database, null);
    await store.setValues(values("k", 40));
    await admin.projects.update("acme", { maxBytes: 30 * KIB });
    await expect.poll(() => fill(store, "more", 1), PATIENCE).toBe(0);
    await admin.projects.update("acme", { maxBytes: 500 * KIB });
    expect(await fill(store, "more", 10)).toBe(10);
  });

  test("overwriting does not use up what is not used", async () => {
    const { store } = await open(database, 100 * KIB);
    // 300 KiB are written, and two versions of each key kept.
    for (let round = 0; round < 15; round++) await store.setValues(values("k", 20));
  });

  test("nothing tells how much there is, not even to root", async () => {
    const { url, admin, store } = await open(database, 20 * KIB);
    await fill(store, "k");
    const answers = await Promise.all(
      ["/v1/projects", "/v1/projects/acme/stores", "/v1/projects/acme/tokens"].map(async (path) => {
        const answer = await fetch(url + path, { headers: { authorization: `Bearer ${ROOT_TOKEN}` } });
        return (await answer.json()) as Record<string, object[]>;
      }),
    );
    expect(answers.map((answer) => Object.keys(answer))).toEqual([["projects"], ["stores"], ["tokens"]]);
    expect(Object.keys((await admin.projects.get("acme")) ?? {}).sort()).toEqual([
      "createdAt",
      "id",
      "maxBytes",
      "maxStores",
      "maxTokens",
    ]);
    const refused = await fetch(`${url}/v1/projects/acme/stores`, {
      method: "POST",
      headers: { authorization: `Bearer ${ROOT_TOKEN}`, "content-type": "application/json" },
      body: JSON.stringify({ id: "t" }),
    });
    expect(refused.status).toBe(201);
    const message = await store.setValue("k", "x".repeat(50 * KIB)).catch((error: unknown) => String(error));
    expect(message).toMatch(/reached a limit/);
    expect(message).not.toMatch(/[0-9]{2}/);
  });
});

test("another server on PostgreSQL learns of a bound, and of what the first has written", async () => {
  const { place, store, storeAt, admin } = await open("PostgreSQL", null);
  const other = storeAt((await start(place)).url);
  await store.setValues(values("k", 40));
  await other.setValues(values("l", 10));
  await admin.projects.update("acme", { maxBytes: 30 * KIB });
  await expect.poll(() => fill(other, "m", 1), PATIENCE).toBe(0);
  await admin.projects.update("acme", { maxBytes: null });
  await expect.poll(() => fill(other, "m", 1), PATIENCE).toBe(1);
});
