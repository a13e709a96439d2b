/** Servers on PostgreSQL: started at once, seeing each other's writes, backed up and restored with --database-url. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";

import type { VersionList } from "@tacenda/protocol";
import { describe, expect, onTestFinished, test, vi } from "vitest";

import { backup } from "../src/cli/backup.js";
import { restore } from "../src/cli/restore.js";
import { verify } from "../src/cli/verify.js";
import { InvalidOptionError } from "../src/startup-error.js";
import { startServer, type RunningServer, type ServerOptions } from "../src/server.js";
import { freshFolder, randomRecordPath, sealedRecord } from "./world.js";
import { postgresWorld } from "./storage/postgres-world.js";
import { cuttingWay } from "./storage/ways.js";

const { cluster, drop } = await postgresWorld();

/** One server or several on a database and in folders of their own, closed when the test ends. */
async function start(
  databaseUrl: string,
  options: Partial<ServerOptions> & { dataDir: string },
): Promise<RunningServer> {
  const server = await startServer({ port: 0, databaseUrl, ...options });
  onTestFinished(() => server.close());
  return server;
}

async function freshDatabase(): Promise<string> {
  const url = (await cluster?.createDatabase()) ?? "";
  onTestFinished(() => drop(url));
  return url;
}

async function call(server: RunningServer, token: string, method: string, path: string, body?: unknown) {
  const isBytes = body instanceof Uint8Array;
  return await fetch(server.url + path, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body !== undefined && { "content-type": isBytes ? "application/octet-stream" : "application/json" }),
      ...(method === "PUT" && { "if-none-match": "*" }),
    },
    ...(body !== undefined && { body: isBytes ? (body as BodyInit) : JSON.stringify(body) }),
  });
}

describe.runIf(cluster !== null)("several servers", () => {
  test("that start at once for the first time agree on a root token and a keyring, and see each other's writes", async () => {
    const url = await freshDatabase();
    const folder = await freshFolder();
    const keyringFile = join(folder, "keyring.json");
    const tokens: string[] = [];
    const announceRootToken = (token: string) => Promise.resolve(void tokens.push(token));
    const servers = await Promise.all(
      [1, 2, 3].map((n) => start(url, { dataDir: join(folder, `data-${n}`), keyringFile, announceRootToken })),
    );
    expect(tokens).toHaveLength(1);
    const [token = ""] = tokens;
    const [one, two] = servers as [RunningServer, RunningServer];
    expect((await call(one, token, "POST", "/v1/projects/default/stores", { id: "s" })).status).toBe(201);
    const path = randomRecordPath("s");
    const record = sealedRecord();
    expect((await call(two, token, "PUT", path, record)).status).toBe(201);
    expect((await call(one, token, "PUT", path, sealedRecord())).status).toBe(412);
    const answer = await call(one, token, "GET", path);
    expect(new Uint8Array(await answer.arrayBuffer())).toEqual(record);
    expect(existsSync(join(folder, "data-1", "tacenda.db"))).toBe(false);
    expect(existsSync(join(folder, "data-1", "lock"))).toBe(false);
  });

  test("with another keyring, or none, are refused before they have made one", async () => {
    const url = await freshDatabase();
    const folder = await freshFolder();
    await start(url, { dataDir: join(folder, "one") });
    await expect(startServer({ port: 0, databaseUrl: url, dataDir: join(folder, "two") })).rejects.toThrow(
      "The keyring is missing",
    );
    expect(existsSync(join(folder, "two", "keyring.json"))).toBe(false);
    expect(readFileSync(join(folder, "one", "root-token"), "utf8")).toMatch(/^tct_/);
  });
});

describe.runIf(cluster !== null)("a write whose COMMIT is cut off", () => {
  test.each([
    ["record", "before"],
    ["record", "after"],
    ["batch", "before"],
    ["batch", "after"],
  ] as const)("of a %s, %s it arrives, is found out about and made once", async (kind, when) => {
    const way = await cuttingWay(await freshDatabase(), "commit\0", when);
    const rootToken = "root-token-of-this-test-0123456789abcdef";
    const server = await start(way.url, { dataDir: join(await freshFolder(), "data"), rootToken });
    await call(server, rootToken, "POST", "/v1/projects/default/stores", { id: "s" });
    const path = randomRecordPath("s");
    const record = sealedRecord();
    // Keys are loaded, and no other commit is on its way when this one's is.
    expect((await call(server, rootToken, "PUT", randomRecordPath("s"), record)).status).toBe(201);
    way.begin();
    const writes = [{ key: path.slice(-43), expect: 0, record: Buffer.from(record).toString("base64url") }];
    const answer =
      kind === "record"
        ? await call(server, rootToken, "PUT", path, record)
        : await call(server, rootToken, "POST", "/v1/projects/default/stores/s/batch", { writes });
    expect(way.cuts()).toBe(1);
    expect(answer.status).toBe(kind === "record" ? 201 : 200);
    const read = await call(server, rootToken, "GET", path);
    expect(new Uint8Array(await read.arrayBuffer())).toEqual(record);
    const { versions } = (await (await call(server, rootToken, "GET", `${path}/versions`)).json()) as VersionList;
    expect(versions).toHaveLength(1);
  });

  test("is of unknown outcome when the database stays away", async () => {
    const way = await cuttingWay(await freshDatabase(), "commit\0", "after");
    const rootToken = "root-token-of-this-test-0123456789abcdef";
    const server = await start(way.url, { dataDir: join(await freshFolder(), "data"), rootToken });
    await call(server, rootToken, "POST", "/v1/projects/default/stores", { id: "s" });
    expect((await call(server, rootToken, "PUT", randomRecordPath("s"), sealedRecord())).status).toBe(201);
    way.begin("for good");
    const answer = await call(server, rootToken, "PUT", randomRecordPath("s"), sealedRecord());
    expect(answer.status).toBe(504);
    expect(await answer.json()).toMatchObject({ error: { code: "outcome_unknown" } });
    // The next one was not even begun.
    expect((await call(server, rootToken, "PUT", randomRecordPath("s"), sealedRecord())).status).toBe(503);
  });
});

describe.runIf(cluster !== null)("backup, verify and restore", () => {
  test("work on PostgreSQL, and a restore is refused where there is something", async () => {
    const output: string[] = [];
    const write = (text: unknown) => output.push(String(text)) > 0;
    const spies = [process.stdout, process.stderr].map((stream) => vi.spyOn(stream, "write").mockImplementation(write));
    onTestFinished(() => spies.forEach((spy) => spy.mockRestore()));
    const [from, to] = [await freshDatabase(), await freshDatabase()];
    const folder = await freshFolder();
    const rootToken = "root-token-of-this-test-0123456789abcdef";
    const keyring = join(folder, "keyring.json");
    const server = await start(from, { dataDir: join(folder, "data"), keyringFile: keyring, rootToken });
    await call(server, rootToken, "POST", "/v1/projects/default/stores", { id: "s" });
    const path = randomRecordPath("s");
    const record = sealedRecord();
    expect((await call(server, rootToken, "PUT", path, record)).status).toBe(201);

    const target = join(folder, "backup");
    const flags = { keyring, dataDir: join(folder, "new") };
    await backup(target, { dataDir: join(folder, "data"), databaseUrl: from });
    expect(await verify({ ...flags, databaseUrl: from })).toBe(0);
    await restore(target, { ...flags, databaseUrl: to });
    await expect(restore(target, { ...flags, databaseUrl: to })).rejects.toThrow(
      "There is something in the PostgreSQL database",
    );
    expect(await verify({ ...flags, databaseUrl: to })).toBe(0);
    expect(output.join("")).toContain("everything opens");
    expect(output.join("")).not.toContain(new URL(from).password);

    const restored = await start(to, { dataDir: join(folder, "new"), keyringFile: keyring, rootToken });
    const answer = await call(restored, rootToken, "GET", path);
    expect(new Uint8Array(await answer.arrayBuffer())).toEqual(record);
  });

  test("of what is no Tacenda database, or from a wrong URL, say so without the URL", async () => {
    const folder = await freshFolder();
    const run = async (databaseUrl: string) => {
      const error: unknown = await backup(join(folder, "b"), { dataDir: join(folder, "data"), databaseUrl }).catch(
        (e: unknown) => e,
      );
      expect(inspect(error, { depth: 9, showHidden: true })).not.toContain("cret");
      return error;
    };
    expect(String(await run(await freshDatabase()))).toContain(
      "There is nothing of Tacenda in the PostgreSQL database",
    );
    for (const [rest, message] of [
      ["se@cret@host/db", "must be of the form"],
      ["secret@host/db?sslmode=maybe", "its sslmode must be one of"],
      ["secret@host/db?passwort=secret", "its parameters can be"],
      ["secret@host", "it must name a user and a database"],
      ["secret@host:99999/db", "its ports must be from 1"],
      ["secret%2@host/db", "a % in it"],
    ] as const) {
      const refused = await run(`postgres://user:${rest}`);
      expect(refused).toBeInstanceOf(InvalidOptionError);
      expect(String(refused)).toContain(message);
    }
  });
});
