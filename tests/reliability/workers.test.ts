/** Several processes on one port: `tacenda-server serve --workers N`; docs/running.md § Several processes. */

import { execFile } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import { describe, expect, onTestFinished, test } from "vitest";

import { freshFolder, runCommand, spawnServer, type ServerProcess } from "../server-process.ts";
import { freshPlace, sharedCluster, type Place } from "./databases.ts";
import { ROOT_TOKEN } from "./key-world.ts";
import { stateOf } from "./takeover-trial.ts";
import { call } from "./two-servers.ts";

const WORKERS = 3;
const WAIT = { timeout: 30_000, interval: 50 };

interface Line {
  pid: number;
  msg: string;
  worker?: number;
  url?: string;
}

async function start(flags: readonly string[] = [], place?: Place, rootToken?: string): Promise<ServerProcess> {
  const { dataDir, env } = place ?? (await freshPlace("PostgreSQL"));
  const server = await spawnServer({
    ...{ dataDir, env },
    flags: ["--workers", String(WORKERS), ...flags],
    ...(rootToken !== undefined && { rootToken }),
  });
  // The test's own end kills the first process only.
  const pids = await workersOf(server);
  onTestFinished(() => {
    for (const pid of pids) if (pid !== 0) kill(pid, "SIGKILL");
  });
  return server;
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It is gone.
  }
}

async function workersOf({ pid }: ServerProcess): Promise<number[]> {
  const { stdout } = await promisify(execFile)("pgrep", ["-P", String(pid)]).catch(() => ({ stdout: "" }));
  const pids = stdout.split("\n").filter(Boolean).map(Number);
  const states = await Promise.all(pids.map(stateOf));
  return pids.filter((_, index) => states[index] !== null && states[index] !== "Z");
}

const areGone = async (pids: readonly number[]) =>
  (await Promise.all(pids.map(stateOf))).every((state) => state === null || state === "Z");

function linesOf(server: ServerProcess, msg: string): Line[] {
  const lines = server
    .output()
    .split("\n")
    .filter((line) => line.startsWith("{"));
  return lines.map((line) => JSON.parse(line) as Line).filter((line) => line.msg === msg);
}

/** A request on a connection of its own: connections are what workers share. */
async function ask(server: ServerProcess, path = "/livez"): Promise<number> {
  const sent = request(server.url + path, { agent: false, headers: { authorization: `Bearer ${ROOT_TOKEN}` } }).end();
  const [answer] = (await once(sent, "response")) as [NodeJS.ReadableStream & { statusCode: number }];
  answer.resume();
  return answer.statusCode;
}

const counted = async (server: ServerProcess, route: string) => {
  const text = await (await fetch(server.metricsUrl ?? "")).text();
  const line = text
    .split("\n")
    .find((one) => one.startsWith("tacenda_http_request_duration_seconds_count") && one.includes(`"${route}"`));
  return { text, count: Number(line?.split(" ").at(-1) ?? 0) };
};

describe("workers", { timeout: 120_000 }, () => {
  test("get secrets that come from files", async () => {
    const { dataDir, databaseUrl } = await freshPlace("PostgreSQL");
    const file = join(await freshFolder(), "secret");
    await writeFile(`${file}-url`, `${databaseUrl ?? ""}\n`, { mode: 0o600 });
    await writeFile(`${file}-token`, `${ROOT_TOKEN}\n`, { mode: 0o600 });
    const env = { TACENDA_DATABASE_URL_FILE: `${file}-url`, TACENDA_ROOT_TOKEN_FILE: `${file}-token` };
    const server = await start([], { dataDir, databaseUrl, env });
    expect(await ask(server, "/v1/projects")).toBe(200);
  });

  test("share a port, with one root token, and their metrics are those of one server", async () => {
    const place = await freshPlace("PostgreSQL");
    const server = await start(["--metrics-port", "0"], place);
    const token = (await readFile(join(place.dataDir, "root-token"), "utf8")).trim();
    expect((await call(server, "GET", "/v1/projects", { token })).status).toBe(200);
    for (let count = 0; count < 30; count++) expect(await ask(server)).toBe(200);
    const { text, count } = await counted(server, "/livez");
    expect(count).toBe(30);
    expect(text).toMatch(/^tacenda_workers 3$/m);
    expect(text).toMatch(/^tacenda_outdated_key_wraps 0$/m);
    await server.end("SIGTERM");
    expect(server.exitCode()).toBe(0);

    const pids = new Set(linesOf(server, "request").map(({ pid }) => pid));
    expect(pids.size).toBe(WORKERS);
    expect(linesOf(server, "worker started")).toHaveLength(WORKERS);
    expect(linesOf(server, "stopped").map(({ pid }) => pid)).toContain(server.pid);
    const announced = server
      .output()
      .split("\n")
      .filter((line) => line.includes("root token was written"));
    expect(announced).toHaveLength(1);
    expect(server.output()).not.toContain(token);
  });

  test("that die are replaced, and what they have counted counts on", async () => {
    const server = await start(["--metrics-port", "0"], undefined, ROOT_TOKEN);
    const before = await workersOf(server);
    for (let round = 0; round < 9; round++) await ask(server);
    expect((await counted(server, "/livez")).count).toBe(9);
    const [first = 0, second = 0] = before;
    process.kill(first, "SIGKILL");
    // In order, as whoever wants all of them anew would do one after the other.
    process.kill(second, "SIGTERM");
    await expect.poll(async () => (await workersOf(server)).length, WAIT).toBe(WORKERS);
    await expect.poll(() => linesOf(server, "worker started").length, WAIT).toBe(WORKERS + 2);
    const ends = linesOf(server, "a worker has ended: another one takes its place");
    expect(ends.map(({ worker }) => worker).sort()).toEqual([first, second].sort());
    expect((await counted(server, "/livez")).count).toBe(9);
    expect(await ask(server)).toBe(200);
    expect((await counted(server, "/livez")).count).toBe(10);
  });

  test("that all die at once come back on the same port", async () => {
    const server = await start([], undefined, ROOT_TOKEN);
    for (const pid of await workersOf(server)) process.kill(pid, "SIGKILL");
    await expect.poll(() => linesOf(server, "worker started").length, WAIT).toBe(2 * WORKERS);
    for (let count = 0; count < 6; count++) expect(await ask(server, "/v1/projects")).toBe(200);
  });

  test("do not outlive a primary that was killed", async () => {
    const server = await start([], undefined, ROOT_TOKEN);
    const pids = await workersOf(server);
    expect(pids).toHaveLength(WORKERS);
    await server.end("SIGKILL");
    await expect.poll(() => areGone(pids), { timeout: 5_000, interval: 20 }).toBe(true);
    await expect(ask(server)).rejects.toThrow("ECONNREFUSED");
  });

  test.each(["SIGTERM", "SIGINT"] as const)("end in order on %s: what is under way is answered", async (signal) => {
    const server = await start([], undefined, ROOT_TOKEN);
    const pids = await workersOf(server);
    const headers = { authorization: `Bearer ${ROOT_TOKEN}`, "content-type": "application/json" };
    const body = JSON.stringify({ id: "late" });
    const slow = request(`${server.url}/v1/projects`, {
      method: "POST",
      headers: { ...headers, "content-length": body.length },
    });
    slow.write(body.slice(0, 5));
    // Until the worker has begun to read.
    await sleep(500);
    process.kill(server.pid, signal);
    await expect.poll(() => server.output(), WAIT).toContain('"stopping"');
    await expect.poll(() => linesOf(server, "stopping").length, WAIT).toBe(WORKERS + 1);
    slow.end(body.slice(5));
    const [answer] = (await once(slow, "response")) as [NodeJS.ReadableStream & { statusCode: number }];
    expect(answer.statusCode).toBe(201);
    expect(await server.ended).toBeNull();
    expect(server.exitCode()).toBe(0);
    expect(await areGone(pids)).toBe(true);
    expect(linesOf(server, "stopped")).toHaveLength(WORKERS + 1);
  });

  test("have so many connections each, and no more", async () => {
    const server = await start(["--max-connections", "1"], undefined, ROOT_TOKEN);
    const sockets: Socket[] = [];
    onTestFinished(() => sockets.forEach((socket) => socket.destroy()));
    const open = async () => {
      const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
      sockets.push(socket.on("error", () => undefined));
      await once(socket, "connect");
      return socket;
    };
    const kept = [await open(), await open(), await open()];
    await sleep(500);
    const refused = await open();
    await expect.poll(() => refused.closed, WAIT).toBe(true);
    expect(kept.map(({ destroyed }) => destroyed)).toEqual([false, false, false]);
    kept[0]?.destroy();
    await sleep(500);
    expect(await ask(server)).toBe(200);
  });

  test("one of which hangs do not keep the metrics of the others from being told", async () => {
    const server = await start(["--metrics-port", "0"], undefined, ROOT_TOKEN);
    for (let count = 0; count < 6; count++) await ask(server);
    expect((await counted(server, "/livez")).count).toBe(6);
    const [first = 0] = await workersOf(server);
    process.kill(first, "SIGSTOP");
    expect((await counted(server, "/livez")).count).toBe(6);
    process.kill(first, "SIGCONT");
  });
});

describe("workers that do not start", { timeout: 120_000 }, () => {
  const serve = async (env: Readonly<Record<string, string>>, ...flags: string[]) => {
    const { dataDir } = await freshPlace("SQLite");
    const args = ["serve", "--workers", "2", "--port", "0", "--data-dir", dataDir, ...flags];
    return { dataDir, ...(await runCommand(args, { env })) };
  };

  test("are refused on an embedded database", async () => {
    const { code, output } = await serve({});
    expect([code, output]).toEqual([2, expect.stringContaining("--workers (TACENDA_WORKERS) needs --database-url")]);
    const { dataDir } = await freshPlace("SQLite");
    const variable = await runCommand(["--port", "0", "--data-dir", dataDir], { env: { TACENDA_WORKERS: "2" } });
    expect(variable.code).toBe(2);
  });

  test("say once what is wrong, and leave nothing running", async () => {
    const { env } = await freshPlace("PostgreSQL");
    const bad = await serve(env, "--key-provider", "nothing:");
    expect(bad.code).toBe(2);
    expect(bad.output.split("\n").filter((line) => line.startsWith("tacenda-server: "))).toHaveLength(2);
    expect(bad.output).toContain("A worker ended before it listened (code 2)");

    const { dataDir } = await freshPlace("SQLite");
    const keyring = `${dataDir}-keyring.json`;
    await writeFile(keyring, "{}", { mode: 0o600 });
    const damaged = await serve(env, "--keyring", keyring);
    expect(damaged.code).toBe(1);
    expect(damaged.output).toContain("keyring");
    expect(damaged.output).toContain("A worker ended before it listened (code 1)");

    const away = await serve({ TACENDA_DATABASE_URL: "postgres://user:secret@127.0.0.1:1/none" });
    expect(away.code).toBe(1);
    expect(away.output).not.toContain("secret");
  });

  test("any more are given up when none is left", async () => {
    const place = await freshPlace("PostgreSQL");
    const server = await start([], place, ROOT_TOKEN);
    await (await sharedCluster()).dropDatabase(place.databaseUrl ?? "");
    for (const pid of await workersOf(server)) process.kill(pid, "SIGKILL");
    expect(await server.ended).toBeNull();
    expect(server.exitCode()).toBe(1);
    expect(server.output()).toContain(
      "No worker serves, and those that were to take their places end before they listen",
    );
  });
});
