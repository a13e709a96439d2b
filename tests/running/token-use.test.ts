/** When a token was last used, by day, as administrators see it; spec/http.md § Last use. */

import { Tacenda, TacendaError, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { startServer, type ServerOptions } from "@tacenda/server";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";

import { DATABASES, freshPlace, sharedCluster, type DatabaseName, type Place } from "../reliability/databases.ts";

const ROOT_TOKEN = "root-token-of-the-use-test-0123456789abcdef";
const DAY = 86_400_000;
/** Midnight in UTC. */
const MONDAY = Date.UTC(2027, 2, 1);

async function start({ dataDir, databaseUrl }: Place, options: Partial<ServerOptions>) {
  const place = { dataDir, ...(databaseUrl !== null && { databaseUrl }) };
  const server = await startServer({ ...place, port: 0, rootToken: ROOT_TOKEN, tokenUseInterval: 50, ...options });
  onTestFinished(() => server.close());
  return { ...server, admin: new TacendaAdmin({ url: server.url, token: ROOT_TOKEN }) };
}

/** A server whose clock the test sets, with a store and a token that nobody has used. */
async function open(database: DatabaseName) {
  const place = await freshPlace(database);
  const clock = { now: MONDAY + 12_345_678 };
  const now = () => clock.now;
  const server = await start(place, { now });
  await server.admin.stores.create("s");
  const minted = await server.admin.tokens.create("backend", [{ stores: ["*"], permissions: ["read", "write"] }]);
  const use = async (url = server.url, token = minted.token) => {
    const store = new Tacenda({ url, token }).getStore("s", { secret, stretch: "store" });
    await store.getValue("k");
  };
  const secret = generateSecret();
  await new Tacenda({ url: server.url, token: ROOT_TOKEN })
    .getStore("s", { secret, stretch: "store" })
    .setValue("k", "v");
  const lastUse = async ({ admin } = server) => (await admin.tokens.get(minted.id))?.lastUsedAt;
  return { place, clock, now, server, minted, use, lastUse };
}

/** Longer than it takes until a use is written down. */
async function becomes<Value>(value: () => Promise<Value>, expected: Value): Promise<void> {
  await expect.poll(() => value(), { timeout: 10_000, interval: 25 }).toBe(expected);
}

// Outside the time of the first test.
beforeAll(async () => {
  await sharedCluster();
}, 120_000);

describe.each(DATABASES)("on %s", { timeout: 120_000 }, (database) => {
  test("it is the day, in UTC; null before the first use; and later days come, earlier ones do not", async () => {
    const { clock, minted, use, lastUse } = await open(database);
    expect([minted.lastUsedAt, await lastUse()]).toEqual([null, null]);
    await use();
    await becomes(lastUse, MONDAY);
    clock.now = MONDAY + DAY - 1;
    await use();
    clock.now = MONDAY + 3 * DAY;
    await use();
    await becomes(lastUse, MONDAY + 3 * DAY);
    clock.now = MONDAY + DAY;
    await use();
    expect(await lastUse()).toBe(MONDAY + 3 * DAY);
  });

  test("what was noted is there after a stop at once", async () => {
    const { place, now, server, use, lastUse } = await open(database);
    await server.close();
    const patient = await start(place, { now, tokenUseInterval: DAY });
    await use(patient.url);
    expect(await lastUse(patient)).toBeNull();
    await patient.close();
    expect(await lastUse(await start(place, { now }))).toBe(MONDAY);
  });

  test("a request that is refused for its token is no use, one that the token may not do is", async () => {
    const { server, minted, lastUse } = await open(database);
    const stranger = new TacendaAdmin({ url: server.url, token: `${minted.token.slice(0, -1)}x` });
    await expect(stranger.stores.list()).rejects.toThrow(TacendaError);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await lastUse()).toBeNull();
    await expect(new TacendaAdmin({ url: server.url, token: minted.token }).stores.list()).rejects.toThrow(
      TacendaError,
    );
    await becomes(lastUse, MONDAY);
  });
});

test("of several servers on PostgreSQL the latest use counts, whichever writes last", async () => {
  const { place, use, server, lastUse } = await open("PostgreSQL");
  const later = await start(place, { now: () => MONDAY + 5 * DAY });
  await Promise.all([use(), use(later.url)]);
  await becomes(lastUse, MONDAY + 5 * DAY);
  await server.close();
  expect(await lastUse(later)).toBe(MONDAY + 5 * DAY);
});
