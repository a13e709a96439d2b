/** A server in this process on a fresh temporary folder, for the examples. In production it is a process of its own. */

import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { startServer, type ServerOptions } from "@tacenda/server";

export interface LocalServer extends AsyncDisposable {
  url: string;
  /** May do everything; keep it for administration. */
  rootToken: string;
  /** Where the database is. */
  dataDir: string;
}

export async function startLocalServer(options: Partial<ServerOptions> = {}): Promise<LocalServer> {
  const folder = await mkdtemp(join(tmpdir(), "tacenda-example-"));
  const dataDir = join(folder, "data");
  const rootToken = randomBytes(32).toString("base64url");
  const server = await startServer({ dataDir, port: 0, rootToken, ...options });
  return {
    url: server.url,
    rootToken,
    dataDir,
    async [Symbol.asyncDispose]() {
      await server.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
