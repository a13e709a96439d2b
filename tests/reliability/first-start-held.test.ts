/**
 * The first start on a PostgreSQL database, held up where it makes what all servers share: another server makes it, and the first,
 * when it goes on, does not put its own in that place; docs/postgresql.md § Several servers.
 */

import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import { describe, expect, test } from "vitest";

import { seedServer } from "../seeded-server.ts";
import { freshFolder, spawnServer, type ServerProcess } from "../server-process.ts";
import { freshPlace } from "./databases.ts";
import { SHORT_TIMES } from "./seeded-bugs.ts";
import { untilHeld } from "./takeover-trial.ts";
import { holdAt, holdable } from "./takeover-works.ts";
import { call } from "./two-servers.ts";

const ROOT_TOKEN = "if (await directory.replaceSetting(SETTING, null,";
const PROVIDER = "await this.#settings.replaceSetting(ACTIVE_PROVIDER_SETTING, noted,";

const build = async () => await seedServer(await freshFolder(), [...SHORT_TIMES, ...holdable([ROOT_TOKEN, PROVIDER])]);

/** The process of a server that does not listen yet. */
async function pidOf(dataDir: string): Promise<number> {
  for (let attempt = 0; attempt < 500; attempt++) {
    const { stdout } = await promisify(execFile)("pgrep", ["-f", dataDir]).catch(() => ({ stdout: "" }));
    if (stdout.trim() !== "") return Number(stdout.trim().split("\n")[0]);
    await sleep(20);
  }
  throw new Error("The server does not start.");
}

/** Starts two servers, each with a folder of its own; the first is held up at a place. `own`: each has its own keyring too. */
async function startHeld(text: string, signal: NodeJS.Signals, { own = false } = {}) {
  const bin = await build();
  const { dataDir, env } = await freshPlace("PostgreSQL");
  const start = (name: string, more: Readonly<Record<string, string>> = {}) =>
    spawnServer({
      bin,
      dataDir: join(dataDir, name),
      env: { ...env, ...more },
      ...(!own && { flags: ["--keyring", join(dataDir, "keyring.json")] }),
    });
  const first = start("first", holdAt(text, signal)).then(
    () => "it listens",
    (error: unknown) => String(error),
  );
  const pid = await pidOf(join(dataDir, "first"));
  await untilHeld(pid);
  const other = await start("other");
  return { first, pid, other, start, folder: dataDir };
}

const rootToken = async (folder: string, name: string) =>
  (await readFile(join(folder, name, "root-token"), "utf8")).trim();
const isRoot = async (server: ServerProcess, token: string) =>
  (await call(server, "GET", "/v1/projects", { token })).status === 200;

describe("a first start", { timeout: 180_000 }, () => {
  test("that was stopped before its root token was kept makes room for another's, and says so when it goes on", async () => {
    const { first, pid, other, start, folder } = await startHeld(ROOT_TOKEN, "SIGSTOP");
    process.kill(pid, "SIGCONT");
    expect(await first).toContain("another one made the root token");
    const [lost, kept] = [await rootToken(folder, "first"), await rootToken(folder, "other")];
    const later = await start("later");
    for (const server of [other, later]) {
      expect([await isRoot(server, kept), await isRoot(server, lost)]).toEqual([true, false]);
    }
  });

  test("that was killed there does not keep others from starting", async () => {
    const { first, other, folder } = await startHeld(ROOT_TOKEN, "SIGKILL");
    expect(await first).toContain("SIGKILL");
    expect(await isRoot(other, await rootToken(folder, "other"))).toBe(true);
  });

  test("that was stopped before its keyring was agreed on is refused when another is by then", async () => {
    const { first, pid, other, folder } = await startHeld(PROVIDER, "SIGSTOP", { own: true });
    const token = await rootToken(folder, "other");
    const create = (id: string) => call(other, "POST", "/v1/projects/default/stores", { token, body: { id } });
    expect((await create("before")).status).toBe(201);
    process.kill(pid, "SIGCONT");
    expect(await first).toContain("New keys of this database are wrapped by the key provider");
    expect((await create("after")).status).toBe(201);
  });
});
