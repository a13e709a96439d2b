/** Starting, stopping and starting again on one data directory; spec/http.md. */

import { existsSync, statSync } from "node:fs";
import { copyFile, readFile, rename, rm } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";

import { RECORD_MEDIA_TYPE } from "@tacenda/protocol";
import BetterSqlite3 from "better-sqlite3";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";

import { createApp, type AppDependencies } from "../src/app.js";
import { startServer, type ServerOptions } from "../src/server.js";
import { StartupError } from "../src/startup-error.js";
import { DataDirectoryLockedError } from "../src/storage/lock.js";
import { openSqlite } from "../src/storage/sqlite.js";
import { ROOT_TOKEN, freshFolder, randomRecordPath, sealedRecord } from "./world.js";

let dataDir: string;

beforeEach(async () => {
  dataDir = join(await freshFolder(), "nested", "data");
});

async function start(options: Partial<ServerOptions> = {}) {
  const server = await startServer({ dataDir, port: 0, ...options });
  onTestFinished(() => server.close());
  const call = (
    method: string,
    path: string,
    token: string,
    init: { body?: BodyInit; headers?: Record<string, string> } = {},
  ) => fetch(server.url + path, { method, ...init, headers: { authorization: `Bearer ${token}`, ...init.headers } });
  return { ...server, call };
}

const readRootToken = async () => (await readFile(join(dataDir, "root-token"), "utf8")).trim();
const json = (value: unknown) => ({ body: JSON.stringify(value), headers: { "content-type": "application/json" } });
const modeOf = (path: string) => statSync(path).mode & 0o777;

/** Starts with a store that holds a record, and stops; gives the record's path. */
async function startWithRecord(): Promise<string> {
  const server = await start({ rootToken: ROOT_TOKEN });
  const path = randomRecordPath("one");
  await server.call("POST", "/v1/projects/default/stores", ROOT_TOKEN, json({ id: "one" }));
  const headers = { "content-type": RECORD_MEDIA_TYPE, "if-none-match": "*" };
  const written = await server.call("PUT", path, ROOT_TOKEN, { body: sealedRecord() as BodyInit, headers });
  expect(written.status).toBe(201);
  await server.close();
  return path;
}

describe("the first start", () => {
  test("makes everything, readable by its owner only", async () => {
    const server = await start();
    expect(modeOf(dataDir)).toBe(0o700);
    for (const file of ["tacenda.db", "keyring.json", "root-token"])
      expect(modeOf(join(dataDir, file)), file).toBe(0o600);
    const root = await readRootToken();
    expect(root).toMatch(/^tct_/);
    const projects = (await (await server.call("GET", "/v1/projects", root)).json()) as { projects: { id: string }[] };
    expect(projects.projects.map(({ id }) => id)).toEqual(["default"]);
    expect((await server.call("GET", "/readyz", "")).status).toBe(200);
  });

  test("keeps the root token only where it was announced, and not if that failed", async () => {
    await expect(start({ announceRootToken: () => Promise.reject(new Error("no terminal")) })).rejects.toThrow(
      "no terminal",
    );
    const announced: string[] = [];
    const server = await start({
      announceRootToken: (token) => {
        announced.push(token);
        return Promise.resolve();
      },
    });
    expect(existsSync(join(dataDir, "root-token"))).toBe(false);
    expect((await server.call("GET", "/v1/projects", announced[0] ?? "")).status).toBe(200);
    await server.close();
    expect((await readFile(join(dataDir, "tacenda.db"))).includes(announced[0] ?? "tct_")).toBe(false);
  });
});

describe("a start on a port in use", () => {
  test("says that the root token which it has made holds, and on later ones nothing of it", async () => {
    const { port } = await start({ rootToken: ROOT_TOKEN });
    dataDir = join(dataDir, "..", "other");
    const announced: string[] = [];
    const announceRootToken = (token: string) => Promise.resolve(void announced.push(token));
    const refused = start({ port, announceRootToken });
    await expect(refused).rejects.toBeInstanceOf(StartupError);
    await expect(refused).rejects.toThrow(
      /\(EADDRINUSE\)\. Choose another --port or --host\. The root token that was made by this start holds all the same/,
    );
    await expect(start({ port, announceRootToken })).rejects.toThrow(
      /\(EADDRINUSE\)\. Choose another --port or --host\.$/,
    );
    const server = await start({ announceRootToken });
    expect((await server.call("GET", "/v1/projects", announced[0] ?? "")).status).toBe(200);
    expect(announced).toHaveLength(1);
  });
});

describe("a later start", () => {
  test("has the same root token, makes no other, and reads what was written", async () => {
    const first = await start();
    const root = await readRootToken();
    await first.close();
    await rm(join(dataDir, "root-token"));
    const second = await start();
    expect(existsSync(join(dataDir, "root-token"))).toBe(false);
    expect((await second.call("GET", "/v1/projects", root)).status).toBe(200);
  });

  test("reads what was written before", async () => {
    const path = await startWithRecord();
    const server = await start({ rootToken: ROOT_TOKEN });
    expect((await server.call("GET", path, ROOT_TOKEN)).status).toBe(200);
  });

  test("takes a given root token instead of the kept one, as long as it is given", async () => {
    const first = await start();
    const kept = await readRootToken();
    await first.close();
    const given = await start({ rootToken: ROOT_TOKEN });
    expect((await given.call("GET", "/v1/projects", ROOT_TOKEN)).status).toBe(200);
    expect((await given.call("GET", "/v1/projects", kept)).status).toBe(401);
    await given.close();
    const last = await start();
    expect((await last.call("GET", "/v1/projects", kept)).status).toBe(200);
    expect((await last.call("GET", "/v1/projects", ROOT_TOKEN)).status).toBe(401);
  });

  test.each(["short", "x".repeat(31), `${"x".repeat(40)} y`, "ü".repeat(40)])(
    "refuses %j as a root token",
    async (rootToken) => {
      const refusal = start({ rootToken });
      await expect(refusal).rejects.toThrow(StartupError);
      await expect(refusal).rejects.not.toThrow(rootToken);
    },
  );

  test("refuses a missing keyring once something is wrapped, and says what that means", async () => {
    const path = await startWithRecord();
    const keyring = join(dataDir, "keyring.json");
    await rename(keyring, `${keyring}.away`);
    await expect(start()).rejects.toThrow(/keyring is missing.*nothing.*can be opened/);
    expect(existsSync(keyring)).toBe(false);
    const server = await start({ rootToken: ROOT_TOKEN, keyringFile: `${keyring}.away` });
    expect((await server.call("GET", path, ROOT_TOKEN)).status).toBe(200);
  });

  test("refuses another keyring, naming both", async () => {
    await startWithRecord();
    const idOf = async (folder: string) => {
      const { id } = JSON.parse(await readFile(join(folder, "keyring.json"), "utf8")) as { id: string };
      return `local:${id}`;
    };
    const other = join(await freshFolder(), "data");
    await (await start({ dataDir: other })).close();
    const needed = await idOf(dataDir);
    await copyFile(join(other, "keyring.json"), join(dataDir, "keyring.json"));
    const refusal = start();
    await expect(refusal).rejects.toThrow(needed);
    await expect(refusal).rejects.toThrow(await idOf(other));
  });

  test("refuses a database with a key of another provider beside its own, naming the store", async () => {
    await startWithRecord();
    const database = new BetterSqlite3(join(dataDir, "tacenda.db"));
    const { provider } = database.prepare("select provider from store_keys").get() as { provider: string };
    const edit = database.prepare("update store_keys set provider = ? where purpose = 'data'");
    edit.run("local:other");
    await expect(start()).rejects.toThrow(
      /Keys of default\/\S+ name the key provider local:other, .*damaged in the database/,
    );
    edit.run(provider);
    database.close();
    await start();
  });

  test("makes a new keyring when nothing was wrapped with the old one", async () => {
    await (await start()).close();
    await rm(join(dataDir, "keyring.json"));
    await start();
    expect(existsSync(join(dataDir, "keyring.json"))).toBe(true);
  });
});

describe("options that no compiler checked", () => {
  test.each([
    [undefined, /startServer needs an object/],
    [{}, /startServer needs "dataDir"/],
    [{ dataDir: undefined, port: 0 }, /startServer needs "dataDir"/],
    [{ dataDir: "never-made", prot: 1 }, /startServer knows no option "prot".*port/],
  ])("%j", async (options, message) => {
    const starting = startServer(options as unknown as ServerOptions);
    await expect(starting).rejects.toThrow(TypeError);
    await expect(starting).rejects.toThrow(message);
    expect(existsSync("never-made")).toBe(false);
  });

  test("an app without its dependencies names the first that is missing", () => {
    expect(() => createApp({} as AppDependencies)).toThrow(new TypeError('createApp needs "records".'));
  });
});

describe("while a server runs", () => {
  test("no other one starts on its data directory", async () => {
    const server = await start();
    await expect(start()).rejects.toThrow(DataDirectoryLockedError);
    await server.close();
    await start();
  });

  test("a port that is taken is said, and leaves nothing locked", async () => {
    const { port } = await start({ dataDir: join(dataDir, "..", "other") });
    await expect(start({ port })).rejects.toThrow(/Cannot listen on port/);
    await expect(start({ metricsPort: port })).rejects.toThrow(/Cannot listen on port.*--metrics-port/);
    await start();
  });

  test("connections beyond the limit are not served", async () => {
    const { port } = await start({ maxConnections: 1 });
    const first = connect(port, "127.0.0.1");
    await new Promise((resolve) => first.once("connect", resolve));
    const second = connect(port, "127.0.0.1");
    let answer = "";
    second.setEncoding("utf8").on("data", (part: string) => (answer += part));
    second.write("GET /v1/token HTTP/1.1\r\nHost: a\r\n\r\n");
    await new Promise((resolve) => second.once("close", resolve).on("error", () => undefined));
    expect(answer).toMatch(/^HTTP\/1.1 503 /);
    expect(first.destroyed).toBe(false);
    first.destroy();
  });

  test("closing twice is closing once, and ends idle connections", async () => {
    const server = await start();
    await (await fetch(`${server.url}/livez`)).text();
    const begun = Date.now();
    await Promise.all([server.close(), server.close()]);
    expect(Date.now() - begun).toBeLessThan(5_000);
    await expect(fetch(`${server.url}/livez`)).rejects.toThrow();
  });

  test("destroyed stores are purged in the background", async () => {
    await startWithRecord();
    const server = await start({ rootToken: ROOT_TOKEN });
    const database = await openSqlite(join(dataDir, "tacenda.db"));
    const rows = async () => (await database.maintenance.scan(null, 10)).rows.length;
    expect(await rows()).toBe(1);
    expect((await server.call("DELETE", "/v1/projects/default/stores/one", ROOT_TOKEN)).status).toBe(200);
    await expect.poll(rows).toBe(0);
    await database.close();
  });
});
