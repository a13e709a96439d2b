/** The image's health check, against servers with and without TLS; docs/deploying.md § Docker. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";

import { Authority } from "../../packages/server/test/certificates.ts";
import { freshFolder, spawnServer } from "../server-process.ts";

/** What the Dockerfile says to run, without its first word, which is node. */
function checkCommand(): string[] {
  const text = readFileSync(join(import.meta.dirname, "../../Dockerfile"), "utf8");
  const [, command = "[]"] = /^HEALTHCHECK [^[]*CMD (\[.*\])$/m.exec(text) ?? [];
  return (JSON.parse(command) as string[]).slice(1);
}

test.each([false, true])("passes while the server answers, and fails then; with TLS: %s", async (isSecure) => {
  await using authority = await Authority.create();
  const { certFile, keyFile } = await authority.issue();
  const env: Record<string, string> = isSecure ? { TACENDA_TLS_CERT: certFile, TACENDA_TLS_KEY: keyFile } : {};
  const server = await spawnServer({ dataDir: join(await freshFolder(), "data"), env });
  const check = async () => {
    const port = new URL(server.url).port;
    const child = spawn(process.execPath, checkCommand(), { env: { ...env, TACENDA_PORT: port }, stdio: "ignore" });
    const [code] = (await once(child, "close")) as [number];
    return code;
  };
  expect(await check()).toBe(0);
  await server.end("SIGTERM");
  expect(await check()).toBe(1);
});
