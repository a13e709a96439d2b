/** What the embedded database takes on the disk while a backup is held up, and afterwards; docs/running.md § Disk. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { expect, onTestFinished, test } from "vitest";

import { SERVER_BIN, freshFolder, spawnServer } from "../server-process.ts";

const ROOT_TOKEN = "root-token-of-the-disk-test-0123456789abcdef";
const VALUE = new Uint8Array(1_000_000);
/** What docs/running.md says that the log comes back to. */
const LOG_BYTES = 33_554_432;

/** The gauge of that name; undefined when there is none. */
async function gauge(url: string | null, name: string): Promise<number | undefined> {
  const text = await (await fetch(url ?? "")).text();
  const found = new RegExp(`^${name}(\\S*) (\\d+)$`, "m").exec(text);
  // Not of a project, nor of anything else: of the whole.
  expect(found?.[1] ?? "").toBe("");
  return found === null ? undefined : Number(found[2]);
}

test("a backup that is held up makes the log grow; when it goes on, the log shrinks, and the backup is whole", async () => {
  const folder = await freshFolder();
  const dataDir = join(folder, "data");
  const server = await spawnServer({ dataDir, rootToken: ROOT_TOKEN, flags: ["--metrics-port", "0"] });
  await new TacendaAdmin({ url: server.url, token: ROOT_TOKEN }).stores.create("s");
  const client = new Tacenda({ url: server.url, token: ROOT_TOKEN });
  const store = client.getStore("s", { secret: generateSecret(), stretch: "store" });
  const fill = async (name: string, count: number) => {
    for (let key = 0; key < count; key++) await store.setValue(`${name}${key}`, VALUE);
  };
  const logFile = join(dataDir, "tacenda.db-wal");
  const logSize = () => statSync(logFile).size;
  await fill("before", 20);
  expect(logSize()).toBeLessThan(LOG_BYTES);

  const target = join(folder, "backup");
  const backup = spawn(process.execPath, [SERVER_BIN, "backup", target, "--data-dir", dataDir], {
    stdio: "ignore",
    env: { PATH: process.env.PATH },
  });
  const ended = once(backup, "exit");
  onTestFinished(() => void backup.kill("SIGKILL"));
  while (!existsSync(target)) await sleep(5);
  backup.kill("SIGSTOP");
  expect(backup.exitCode).toBeNull();
  await fill("meanwhile", 60);
  expect(logSize()).toBeGreaterThan(60_000_000);
  expect(await gauge(server.metricsUrl, "tacenda_database_log_bytes")).toBe(logSize());

  backup.kill("SIGCONT");
  expect((await ended)[0]).toBe(0);
  // Nobody writes any more.
  await expect.poll(logSize, { timeout: 30_000, interval: 100 }).toBeLessThan(LOG_BYTES);
  expect(await gauge(server.metricsUrl, "tacenda_database_bytes")).toBe(statSync(join(dataDir, "tacenda.db")).size);
  expect(await gauge(server.metricsUrl, "tacenda_database_free_bytes")).toBeLessThan(1_000_000);
  expect(await store.getBytes("meanwhile59")).toEqual(VALUE);
  await server.end("SIGTERM");
  expect(existsSync(logFile)).toBe(false);
}, 120_000);
