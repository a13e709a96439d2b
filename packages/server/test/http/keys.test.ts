/** The administration of keys of a running server, over HTTP; spec/http.md § Keys. */

import { join } from "node:path";

import type { DestructionReceipt, KeyStatus, StoreKeyStatus } from "@tacenda/protocol";
import BetterSqlite3 from "better-sqlite3";
import { describe, expect, test } from "vitest";

import { KeyProviderError } from "../../src/envelope/key-provider.js";
import { startServer, type ServerOptions } from "../../src/server.js";
import { StartupError } from "../../src/startup-error.js";
import { openSwitchable } from "../keys/switchable-provider.js";
import {
  ROOT_TOKEN,
  START,
  errorCode,
  freshFolder,
  openWorld,
  randomRecordPath,
  sealedRecord,
  type World,
} from "../world.js";

const KEYS = "/v1/admin/keys";
const STORE_KEYS = "/v1/projects/default/stores/one/keys";
const WAIT = { timeout: 20_000, interval: 20 };

type Root = ReturnType<typeof asRoot>;

function asRoot(world: Pick<World, "call">) {
  const send = async (method: string, path: string, json?: unknown) => {
    const answer = await world.call(method, path, { token: ROOT_TOKEN, ...(json !== undefined && { json }) });
    return { status: answer.status, body: (await answer.json()) as unknown };
  };
  return {
    send,
    status: async () => (await send("GET", KEYS)).body as KeyStatus,
    async refusal(path: string, json: unknown) {
      const { status, body } = await send("POST", `${KEYS}/${path}`, json);
      const { code, message } = (body as { error: { code: string; message: string } }).error;
      return { status, code, message };
    },
    store: async () => (await send("GET", STORE_KEYS)).body as StoreKeyStatus,
  };
}

/** Waits until nothing is left to do. */
async function settled(root: Root): Promise<KeyStatus> {
  const idle = async () => {
    const { outdatedWraps, reencryptions } = await root.status();
    return outdatedWraps + reencryptions.filter(({ endedAt }) => endedAt === null).length;
  };
  await expect.poll(idle, WAIT).toBe(0);
  return await root.status();
}

/** Writes records and gives a function that reads them all back. */
async function writeRecords(world: World, count: number): Promise<() => Promise<void>> {
  const written = Array.from({ length: count }, () => ({ path: randomRecordPath(), record: sealedRecord() }));
  const headers = { "content-type": "application/octet-stream", "if-none-match": "*" };
  await Promise.all(
    written.map(async ({ path, record }) => {
      const answer = await world.call("PUT", path, { token: ROOT_TOKEN, headers, body: record });
      expect(answer.status).toBe(201);
    }),
  );
  return async () => {
    for (const { path, record } of written) {
      const answer = await world.call("GET", path, { token: ROOT_TOKEN });
      expect(answer.status).toBe(200);
      expect(Buffer.from(await answer.arrayBuffer()).equals(record)).toBe(true);
    }
  };
}

describe("master keys", () => {
  test("are rotated, retired, reinstated and destroyed, and records stay readable", async () => {
    const world = await openWorld();
    const root = asRoot(world);
    const readAll = await writeRecords(world, 20);
    const before = await root.status();
    const provider = before.providers[0]?.id ?? "";
    expect(before).toMatchObject({ outdatedWraps: 0, reencryptions: [], failure: null });
    expect(before.providers).toMatchObject([
      { active: true, configured: true, health: "ok", currentVersion: 1, versions: [{ version: 1, wraps: 6 }] },
    ]);

    expect(await root.send("POST", `${KEYS}/rotate`, {})).toEqual({
      status: 202,
      body: { provider, masterVersion: 2 },
    });
    const after = await settled(root);
    expect(after.providers[0]?.versions.map(({ version, state, wraps }) => [version, state, wraps])).toEqual([
      [1, "enabled", 0],
      [2, "enabled", 6],
    ]);
    await readAll();
    expect(await root.refusal("destroy", { version: 1 })).toMatchObject({ status: 409, code: "key_in_use" });
    for (let repeat = 0; repeat < 2; repeat++) {
      expect((await root.send("POST", `${KEYS}/retire`, { version: 1 })).status).toBe(200);
    }
    expect((await root.status()).providers[0]?.versions[0]).toMatchObject({ version: 1, state: "retired" });
    expect((await root.send("POST", `${KEYS}/reinstate`, { version: 1 })).status).toBe(200);
    expect((await root.status()).providers[0]?.versions[0]).toMatchObject({ version: 1, state: "enabled" });
    await root.send("POST", `${KEYS}/retire`, { provider, version: 1 });
    const { status, body } = await root.send("POST", `${KEYS}/destroy`, { version: 1 });
    const receipt = body as DestructionReceipt;
    expect(status).toBe(200);
    expect(receipt).toMatchObject({ at: START, keys: [{ provider, masterVersion: 1 }] });
    expect(receipt.stillOpenedBy.join(" ")).toContain("backup");
    expect((await root.status()).providers[0]?.versions[0]).toMatchObject({ version: 1, state: "destroyed" });
    expect(await root.refusal("reinstate", { version: 1 })).toMatchObject({ status: 409, code: "key_in_use" });

    await readAll();
    expect((await root.send("POST", "/v1/projects/default/stores", { id: "later" })).status).toBe(201);
    await world.close();
    const again = await startServer({ dataDir: join(world.folder, "data"), port: 0, rootToken: ROOT_TOKEN });
    const answer = await fetch(`${again.url}/readyz`);
    expect(answer.status).toBe(200);
    await again.close();
  });

  test("that wrap or are wrapped under are not retired, and the refusal says by whom", async () => {
    const folder = await freshFolder();
    const provider = await openSwitchable(join(folder, "keyring.json"));
    const world = await openWorld({ keyProviders: [provider] });
    const root = asRoot(world);
    const current = await root.refusal("retire", { version: 1 });
    expect(current).toMatchObject({ status: 409, code: "key_in_use" });
    expect(current.message).toContain("rotate first");

    let letGo = () => {};
    const held = new Promise<void>((resolve) => (letGo = resolve));
    provider.beforeWrap = () => held;
    await root.send("POST", `${KEYS}/rotate`, {});
    expect((await root.status()).outdatedWraps).toBe(6);
    const used = await root.refusal("retire", { version: 1 });
    expect(used).toMatchObject({ status: 409, code: "key_in_use" });
    for (const store of ["default/one", "default/two", "other/one"]) expect(used.message).toContain(store);
    letGo();
    await settled(root);
    expect((await root.send("POST", `${KEYS}/retire`, { version: 1 })).status).toBe(200);
  });

  test("that the provider does not retire stay as they were, and its reason is told", async () => {
    const folder = await freshFolder();
    const provider = await openSwitchable(join(folder, "keyring.json"));
    const { masterKeys } = provider.keyring;
    const answers = [
      new KeyProviderError("refused", "The key retires its versions in order."),
      new KeyProviderError("unavailable", "The token did not answer."),
    ];
    const retire = (version: number) => {
      const answer = answers.shift();
      return answer === undefined ? masterKeys.retire(version) : Promise.reject(answer);
    };
    provider.masterKeys = { ...masterKeys, retire };
    const world = await openWorld({ keyProviders: [provider] });
    const root = asRoot(world);
    await root.send("POST", `${KEYS}/rotate`, {});
    await settled(root);
    const inOrder = { status: 409, code: "key_in_use", message: "The key retires its versions in order." };
    expect(await root.refusal("retire", { version: 1 })).toEqual(inOrder);
    expect((await root.status()).providers[0]?.versions[0]?.state).toBe("enabled");
    const away = { status: 503, code: "key_provider_unavailable", message: "The token did not answer." };
    expect(await root.refusal("retire", { version: 1 })).toEqual(away);
    expect((await root.send("POST", `${KEYS}/retire`, { version: 1 })).status).toBe(200);
  });

  test("that do not exist are told as such", async () => {
    const root = asRoot(await openWorld());
    for (const path of ["retire", "reinstate", "destroy"]) {
      expect(await root.refusal(path, { version: 9 })).toMatchObject({ status: 400, code: "invalid_request" });
      expect(await root.refusal(path, { provider: "local:nobody", version: 1 })).toMatchObject({ status: 400 });
    }
    expect((await root.refusal("migrate", { to: "pkcs11" })).message).toContain("--key-provider");
  });

  test("are rotated by schedule when they are due, once", async () => {
    const day = 86_400_000;
    const world = await openWorld({ masterKeyRotation: 400 * day, keyInterval: 50 });
    const root = asRoot(world);
    const { nextRotation } = await root.status();
    expect(nextRotation).toBeGreaterThan(START);
    world.clock.now = (nextRotation ?? 0) - 1;
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect((await root.status()).providers[0]?.currentVersion).toBe(1);
    world.clock.now = nextRotation ?? 0;
    await expect.poll(async () => (await root.status()).providers[0]?.currentVersion, WAIT).toBe(2);
    await settled(root);
    // The new key is as young as the real clock says, so it is due once more only if the schedule does not look.
    world.clock.now = Date.now() + 399 * day;
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect((await root.status()).providers[0]?.currentVersion).toBe(2);
  });
});

describe("moving to another key provider", () => {
  test("wraps every key by it while serving; then the old one is not needed any more", async () => {
    const folder = await freshFolder();
    const [old, next] = [`local:${join(folder, "old.json")}`, `local:${join(folder, "next.json")}`];
    const world = await openWorld({ keyProviders: [old, next] });
    const root = asRoot(world);
    const readAll = await writeRecords(world, 20);
    const [from, to] = (await root.status()).providers.map(({ id }) => id);
    expect(await root.refusal("migrate", { to: "local" })).toMatchObject({ status: 400 });
    expect((await root.send("POST", `${KEYS}/migrate`, { to })).body).toEqual({ provider: to, masterVersion: 1 });
    const { providers } = await settled(root);
    expect(providers.map(({ id, active, versions }) => [id, active, versions[0]?.wraps])).toEqual([
      [from, false, 0],
      [to, true, 6],
    ]);
    expect((await root.send("POST", "/v1/projects/default/stores", { id: "later" })).status).toBe(201);
    await readAll();
    await world.close();

    const dataDir = join(world.folder, "data");
    const start = (keyProviders: string[]) => startServer({ dataDir, port: 0, rootToken: ROOT_TOKEN, keyProviders });
    await expect(start([old])).rejects.toThrow(StartupError);
    const again = await start([next]);
    expect((await fetch(`${again.url}/readyz`)).status).toBe(200);
    await again.close();
    // A provider that only takes no part may stay, whatever its place.
    await (await start([old, next])).close();
  });
});

test("the order in which providers are configured moves no keys", async () => {
  const folder = await freshFolder();
  const [one, other] = [`local:${join(folder, "one.json")}`, `local:${join(folder, "other.json")}`];
  const world = await openWorld({ keyProviders: [one, other] });
  const [before] = (await asRoot(world).status()).providers;
  await world.close();
  const dataDir = join(world.folder, "data");
  const options = { dataDir, port: 0, rootToken: ROOT_TOKEN, keyInterval: 50 };
  const again = await startServer({ ...options, keyProviders: [other, one] });
  await new Promise((resolve) => setTimeout(resolve, 300));
  const answer = await fetch(`${again.url}${KEYS}`, { headers: { authorization: `Bearer ${ROOT_TOKEN}` } });
  const { providers } = (await answer.json()) as KeyStatus;
  expect(providers.find(({ active }) => active)).toEqual(before);
  await again.close();
});

describe("the data keys of a store", () => {
  test("are rotated for new writes, and old records re-encrypted when asked", async () => {
    const world = await openWorld();
    const root = asRoot(world);
    const old = await writeRecords(world, 30);
    const rotated = (await root.send("POST", `${STORE_KEYS}/rotate`, {})).body as StoreKeyStatus;
    expect(rotated.keys.map(({ purpose, version, state }) => [purpose, version, state])).toEqual([
      ["data", 1, "retired"],
      ["data", 2, "active"],
      ["index", 1, "active"],
    ]);
    expect(rotated.reencryption).toBeNull();
    const young = await writeRecords(world, 10);
    await old();
    expect((await root.send("POST", `${STORE_KEYS}/reencrypt`, {})).status).toBe(202);
    await settled(root);
    expect((await root.store()).keys.map(({ purpose, version }) => [purpose, version])).toEqual([
      ["data", 2],
      ["index", 1],
    ]);
    await old();
    await young();
    const both = await root.send("POST", `${STORE_KEYS}/rotate`, { reencrypt: true });
    expect((both.body as StoreKeyStatus).keys).toHaveLength(3);
    await settled(root);
    expect((await root.store()).keys).toHaveLength(2);
    await old();
    await young();
  });

  test("stay as long as a damaged record needs them, and the others go on", async () => {
    const world = await openWorld();
    const root = asRoot(world);
    const sound = await writeRecords(world, 5);
    const path = randomRecordPath();
    const headers = { "content-type": "application/octet-stream", "if-none-match": "*" };
    await world.call("PUT", path, { token: ROOT_TOKEN, headers, body: sealedRecord() });
    await root.send("POST", `${STORE_KEYS}/rotate`, {});
    await world.close();
    const file = join(world.folder, "data", "tacenda.db");
    const raw = new BetterSqlite3(file);
    const { rowid } = raw.prepare("select max(rowid) as rowid from record_versions").get() as { rowid: number };
    const flip = raw.prepare("update record_versions set body = ? where rowid = ?");
    const { body } = raw.prepare("select body from record_versions where rowid = ?").get(rowid) as { body: Buffer };
    body[60] = (body[60] ?? 0) ^ 1;
    flip.run(body, rowid);
    raw.close();

    const server = await startServer({ dataDir: join(world.folder, "data"), port: 0, rootToken: ROOT_TOKEN });
    const call: World["call"] = (method, where, options = {}) =>
      fetch(server.url + where, {
        method,
        headers: { authorization: `Bearer ${ROOT_TOKEN}`, "content-type": "application/json" },
        ...(options.json !== undefined && { body: JSON.stringify(options.json) }),
      });
    const again = asRoot({ call });
    await again.send("POST", `${STORE_KEYS}/reencrypt`, {});
    await settled(again);
    expect((await again.store()).keys.map(({ purpose, version, state }) => [purpose, version, state])).toEqual([
      ["data", 1, "retired"],
      ["data", 2, "active"],
      ["index", 1, "active"],
    ]);
    const damaged = await call("GET", path);
    expect([damaged.status, await errorCode(damaged)]).toEqual([500, "record_damaged"]);
    Object.assign(world, { call });
    await sound();
    const counts = new BetterSqlite3(file);
    expect(
      counts.prepare("select key_version, count(*) as n from record_versions group by 1 order by 1").all(),
    ).toEqual([
      { key_version: 1, n: 1 },
      { key_version: 2, n: 5 },
    ]);
    counts.close();
    await server.close();
  });

  test("are rotated by schedule in every store", async () => {
    const world = await openWorld({ dataKeyRotation: 1_000, keyInterval: 50 });
    world.clock.now += 1_001;
    const root = asRoot(world);
    await expect.poll(async () => (await root.store()).keys.length, WAIT).toBe(3);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect((await root.store()).keys).toHaveLength(3);
  });

  test("of a store that does not exist are not found", async () => {
    const root = asRoot(await openWorld());
    for (const [method, path] of [
      ["GET", ""],
      ["POST", "/rotate"],
      ["POST", "/reencrypt"],
    ] as const) {
      const where = `/v1/projects/default/stores/nothing/keys${path}`;
      expect((await root.send(method, where, method === "POST" ? {} : undefined)).status).toBe(404);
    }
  });
});

test("a project's administrator does not learn from a receipt where the master keys are", async () => {
  const world = await openWorld();
  const token = await world.mint("default", [{ stores: ["*"], permissions: ["manage"] }]);
  const answer = await world.call("DELETE", "/v1/projects/default/stores/one", { token });
  const text = await answer.text();
  expect([answer.status, text]).toEqual([200, expect.not.stringContaining("local:") as unknown]);
  expect((JSON.parse(text) as DestructionReceipt).keys).toEqual([
    { purpose: "data", version: 1 },
    { purpose: "index", version: 1 },
  ]);
});

test("destroying a store gives a receipt, and leaves nothing of its wrapped keys in the files", async () => {
  const world = await openWorld();
  const root = asRoot(world);
  const file = join(world.folder, "data", "tacenda.db");
  const raw = new BetterSqlite3(file, { readonly: true });
  const wraps = raw.prepare("select wrapped from store_keys where project = 'default' and store = 'one'").all();
  raw.close();
  const { status, body } = await root.send("DELETE", "/v1/projects/default/stores/one");
  const receipt = body as DestructionReceipt;
  expect(status).toBe(200);
  expect(receipt).toMatchObject({ destroyed: "store default/one", at: START });
  expect(receipt.keys.map(({ purpose, version, masterVersion }) => [purpose, version, masterVersion])).toEqual([
    ["data", 1, 1],
    ["index", 1, 1],
  ]);
  expect(receipt.stillOpenedBy.join(" ")).toMatch(/backup of the wrapped keys/);
  const { readFileSync } = await import("node:fs");
  const contents = ["", "-wal"].map((suffix) => readFileSync(file + suffix));
  for (const { wrapped } of wraps as { wrapped: Buffer }[]) {
    for (const content of contents) expect(content.includes(wrapped)).toBe(false);
  }
});

describe("while the key provider fails", () => {
  const options = (provider: Awaited<ReturnType<typeof openSwitchable>>): Partial<ServerOptions> => ({
    keyProviders: [provider],
    keyCacheTtl: 1,
  });

  test.each(["unavailable", "refused", "silent"] as const)(
    "%s: reads go on, all else fails closed, and all is well afterwards",
    async (state) => {
      const folder = await freshFolder();
      const provider = await openSwitchable(join(folder, "keyring.json"));
      const world = await openWorld(options(provider));
      const root = asRoot(world);
      const readAll = await writeRecords(world, 3);
      provider.state = state;
      await new Promise((resolve) => setTimeout(resolve, 20));
      await readAll();
      const headers = { "content-type": "application/octet-stream", "if-none-match": "*" };
      const put = () => world.call("PUT", randomRecordPath(), { token: ROOT_TOKEN, headers, body: sealedRecord() });
      const written = await put();
      expect([written.status, await errorCode(written)]).toEqual([503, "key_provider_unavailable"]);
      expect((await root.send("POST", "/v1/projects/default/stores", { id: "later" })).status).toBe(503);
      expect((await world.call("GET", "/readyz")).status).toBe(503);
      const { providers } = await root.status();
      expect(providers[0]?.health).toBe(state === "silent" ? "unavailable" : state);
      provider.state = "on";
      await expect.poll(async () => (await put()).status, { timeout: 5_000, interval: 100 }).toBe(201);
      await expect.poll(async () => (await world.call("GET", "/readyz")).status, WAIT).toBe(200);
      await readAll();
    },
    60_000,
  );

  test("reads end with the time of grace", async () => {
    const folder = await freshFolder();
    const provider = await openSwitchable(join(folder, "keyring.json"));
    const world = await openWorld({ ...options(provider), keyCacheGrace: 500 });
    const readAll = await writeRecords(world, 1);
    provider.state = "unavailable";
    await readAll();
    await new Promise((resolve) => setTimeout(resolve, 600));
    await expect(readAll()).rejects.toThrow();
    provider.state = "on";
    await new Promise((resolve) => setTimeout(resolve, 1_100));
    await readAll();
  });
});
