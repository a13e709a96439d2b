/**
 * Two servers on one PostgreSQL database: what is changed through one holds on the other within seconds, and a token that was
 * revoked within five; docs/postgresql.md § Several servers.
 */

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { generateSecret } from "@tacenda/sdk";
import type { TacendaAdmin } from "@tacenda/sdk/admin";
import { describe, expect, test } from "vitest";

import { sealedRecord } from "../../packages/server/test/world.js";
import { seedServer } from "../seeded-server.ts";
import { freshFolder, type ServerProcess } from "../server-process.ts";
import { sharedCluster } from "./databases.ts";
import { STORE, adminOf, mastersInUse, settled, storeOf } from "./key-world.ts";
import { DESTRUCTIONS_UNSEEN, TOKENS_BELIEVED } from "./seeded-bugs.ts";
import { SteadyLoad } from "./steady-load.ts";
import { call, startTwo, untilSeen, type TwoServers } from "./two-servers.ts";

const READS = [{ stores: ["*"], permissions: ["read"] }] as const;
/** Longer than rows of a destroyed store stay, and than a look at what there is to purge may wait. In milliseconds. */
const PURGED = 16_000;

const recordPath = (store = STORE) =>
  `/v1/projects/default/stores/${store}/records/${randomBytes(32).toString("base64url")}`;
const write = (server: ServerProcess, path: string, version = 1) =>
  call(server, "PUT", path, {
    body: sealedRecord(),
    headers: version === 1 ? { "if-none-match": "*" } : { "if-match": `"${version - 1}"` },
  });

async function mint(admin: TacendaAdmin): Promise<{ id: string; token: string }> {
  return await admin.tokens.create(
    "many",
    READS.map((grant) => ({ stores: [...grant.stores], permissions: [...grant.permissions] })),
  );
}

/** Milliseconds until the other server refuses a token that it has just been shown. */
async function revoke({ one, two }: TwoServers): Promise<number> {
  const { id, token } = await mint(adminOf(one.url));
  const status = async () => (await call(two, "GET", "/v1/token", { token })).status;
  expect(await status()).toBe(200);
  await adminOf(one.url).tokens.delete(id);
  const took = await untilSeen("a revoked token", async () => (await status()) === 401);
  for (let count = 0; count < 5; count++) expect(await status()).toBe(401);
  return took;
}

describe("tokens", () => {
  test("made on one server work on the other at once, and revoked ones are refused within 5 s", async () => {
    const servers = await startTwo();
    const took = [];
    for (let trial = 0; trial < 5; trial++) took.push(await revoke(servers));
    console.log(`Revoked on one server, refused by the other after ${took.join(", ")} ms`);
    const { one, two } = servers;
    const project = adminOf(one.url);
    await call(one, "POST", "/v1/projects", { body: { id: "acme" } });
    const { body } = await call(one, "POST", "/v1/projects/acme/tokens", {
      body: { name: "a", grants: [{ stores: ["*"], permissions: ["manage"] }] },
    });
    const minter = String(body.token);
    const minted = await call(two, "POST", "/v1/projects/acme/tokens", {
      token: minter,
      body: { name: "b", grants: READS },
    });
    const tokens = [minter, String(minted.body.token)];
    const refused = async (server: ServerProcess) =>
      (await Promise.all(tokens.map((token) => call(server, "GET", "/v1/token", { token })))).every(
        ({ status }) => status === 401,
      );
    expect(await refused(one)).toBe(false);
    expect(await refused(two)).toBe(false);
    await project.projects.delete("acme");
    for (const server of [one, two]) await untilSeen("the tokens of a destroyed project", () => refused(server));
  });

  test("this suite catches tokens that are believed for longer", async () => {
    const bin = await seedServer(await freshFolder(), [TOKENS_BELIEVED]);
    await expect(revoke(await startTwo({ bin }))).rejects.toThrow("a revoked token is not seen within");
  });
});

/** What one server answers of a record, again and again, after its store was destroyed through the other. */
async function destroy({ one, two }: TwoServers, path: string, forget: () => Promise<unknown>, time: number) {
  expect((await write(one, path)).status).toBe(201);
  expect((await call(two, "GET", path)).status).toBe(200);
  await forget();
  const started = performance.now();
  const answers: string[] = [];
  let took = 0;
  while (performance.now() - started < time) {
    const { status, code } = await call(two, "GET", path);
    if (answers.at(-1) !== `${status} ${code}`) answers.push(`${status} ${code}`);
    if (status === 200) took = Math.round(performance.now() - started);
    await sleep(20);
  }
  return { answers, took };
}

describe("stores", () => {
  test("made, changed and described on one server are so on the other", async () => {
    const { one, two } = await startTwo();
    const [admin, other] = [adminOf(one.url), adminOf(two.url)];
    await admin.stores.create(STORE);
    expect(await other.stores.get(STORE)).toMatchObject({ maxVersions: 10 });
    const path = recordPath();
    for (const version of [1, 2, 3])
      expect((await write(version % 2 === 0 ? one : two, path, version)).status).toBeLessThan(300);
    await admin.stores.update(STORE, { maxVersions: 1 });
    expect((await write(two, path, 4)).status).toBe(200);
    expect((await call(two, "GET", `${path}?version=3`)).code).toBe("record_not_found");

    const check = async (server: ServerProcess, bytes: Uint8Array) =>
      await call(server, "PUT", `/v1/projects/default/stores/${STORE}/secret-check`, { body: bytes });
    const [known, wrong] = [randomBytes(32), randomBytes(32)];
    expect((await check(one, known)).status).toBe(204);
    expect((await check(two, known)).status).toBe(204);
    expect((await check(two, wrong)).code).toBe("secret_mismatch");
    await admin.stores.update(STORE, { secrets: "any" });
    expect((await check(two, wrong)).headers.get("tacenda-secret-check")).toBe("off");

    const patch = (server: ServerProcess, body: object) =>
      call(server, "PATCH", path, { body, headers: { "if-match": '"4"' } });
    expect((await patch(one, { protected: true })).status).toBe(200);
    const tombstone = { body: sealedRecord({ state: 1 }), headers: { "if-match": '"4"' } };
    expect((await call(two, "PUT", path, tombstone)).code).toBe("record_protected");
    expect((await patch(one, { active: false })).status).toBe(200);
    expect((await call(two, "GET", path)).code).toBe("record_inactive");
    expect((await patch(two, { active: true })).status).toBe(200);
    expect((await call(one, "GET", path)).status).toBe(200);
  });

  test("destroyed on one server are gone from the other, which says so and never that a record is not there", async () => {
    const servers = await startTwo();
    const admin = adminOf(servers.one.url);
    await admin.stores.create(STORE);
    await call(servers.one, "POST", "/v1/projects", { body: { id: "acme" } });
    await call(servers.one, "POST", "/v1/projects/acme/stores", { body: { id: STORE } });
    const path = recordPath();
    const [store, project] = await Promise.all([
      destroy(servers, path, () => admin.stores.delete(STORE), PURGED),
      destroy(servers, path.replace("default", "acme"), () => admin.projects.delete("acme"), PURGED),
    ]);
    for (const { answers, took } of [store, project]) {
      expect([["200 null", "404 not_found"], ["404 not_found"]]).toContainEqual(answers);
      expect(took).toBeLessThan(5_000);
    }
    console.log(`Destroyed on one server, read on the other for ${store.took} and ${project.took} ms`);
    const count = "select count(*)::int as count from record_versions";
    const left = async () =>
      (await (await sharedCluster()).query<{ count: number }>(count, servers.place.databaseUrl ?? ""))[0]?.count;
    await expect.poll(left, { timeout: 10_000 }).toBe(0);
    expect((await write(servers.two, recordPath())).code).toBe("not_found");
  });

  test("this suite catches a server that does not look what was destroyed", async () => {
    const bin = await seedServer(await freshFolder(), [DESTRUCTIONS_UNSEEN]);
    const servers = await startTwo({ bin });
    await adminOf(servers.one.url).stores.create(STORE);
    const { answers } = await destroy(
      servers,
      recordPath(),
      () => adminOf(servers.one.url).stores.delete(STORE),
      PURGED,
    );
    expect(answers).toContain("404 record_not_found");
  });
});

describe("keys", { timeout: 120_000 }, () => {
  test("rotated, moved, retired and destroyed through one server, the other serves on, with fresh keys and with old ones", async () => {
    const folder = await freshFolder();
    const uris = ["first", "second"].map((name) => `local:${folder}/${name}.json`);
    const providers = uris.flatMap((uri) => ["--key-provider", uri]);
    // One has to unwrap all the time, the other goes on with the keys it has.
    const { one, two, start } = await startTwo({ flags: [...providers, "--key-cache-ttl", "1s"] });
    const three = await start({ flags: providers });
    const secret = generateSecret();
    const { keys, stores } = adminOf(one.url);
    await stores.create(STORE);
    const loads = [two, three].map(({ url }, index) => new SteadyLoad(url, secret, 3, `load-${index}`));
    const during = async (work: () => Promise<unknown>) => {
      const before = loads.map(({ calls }) => calls);
      await work();
      const status = await settled(adminOf(one.url));
      expect(mastersInUse(status)).toHaveLength(1);
      // Long enough for keys to be loaded anew.
      await sleep(1_500);
      for (const [index, { calls }] of loads.entries()) expect(calls).toBeGreaterThan(before[index] ?? 0);
      return status;
    };
    await during(() => keys.rotate());
    await during(() => keys.rotateData(STORE, { reencrypt: true }));
    await keys.retire({ version: 1 });
    await during(() => keys.destroy({ version: 1 }));
    const ids = (await keys.status()).providers.map(({ id }) => id);
    await during(() => keys.migrate(ids[1] ?? ""));
    await adminOf(three.url).stores.create("made-later");
    await during(() => adminOf(two.url).keys.rotate());
    await during(() => keys.rotateData(STORE));
    await storeOf(two.url, secret, "made-later").setValue("key", "value");
    expect(await storeOf(one.url, secret, "made-later").getValue("key")).toBe("value");
    for (const load of loads) {
      await load.stop();
      expect(load.faults).toEqual([]);
      expect(load.retries).toBe(0);
    }
  });
});
