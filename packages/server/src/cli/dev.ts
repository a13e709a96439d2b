/**
 * `tacenda-server dev`: a running server with a store, a token and a secret, printed as `.env` lines. A server never
 * knows a secret; `dev` alone makes one, because it is a developer's convenience that prints it and forgets it.
 */

import { randomBytes } from "node:crypto";

import { DEFAULT_MAX_VERSIONS, DEFAULT_PROJECT, RANDOM_LENGTH, SECRET_PREFIX, randomBase62 } from "@tacenda/protocol";

import { newToken, withChecksum } from "../auth/tokens.js";
import { startServer, type RunningServer } from "../server.js";
import { StartupError } from "../startup-error.js";
import { toServerOptions, type ServeFlags } from "./options.js";
import { closeOnSignal, createLogger, showRootToken } from "./process.js";

export interface DevFlags extends ServeFlags {
  store: string;
}

export async function dev(flags: DevFlags, rootToken: string | undefined): Promise<void> {
  const logger = createLogger(flags.logLevel, 2);
  const server = await startServer({
    ...toServerOptions(flags, rootToken),
    logger,
    ...(process.stderr.isTTY && { announceRootToken: (token: string) => showRootToken(token, process.stderr) }),
  });
  try {
    process.stdout.write(await makeEnvironment(server, flags.store));
  } catch (error) {
    await server.close();
    throw error;
  }
  await closeOnSignal(server, logger);
  logger.flush();
}

/** The `.env` lines. The secret is among them only when the store is new, for nobody here knows that of an older one. */
async function makeEnvironment(server: RunningServer, store: string): Promise<string> {
  const isNew = await makeStore(server, store);
  const token = await makeToken(server, store);
  const lines = [
    `TACENDA_URL=${server.url}`,
    `TACENDA_TOKEN=${token}`,
    `TACENDA_PROJECT=${DEFAULT_PROJECT}`,
    `TACENDA_STORE=${store}`,
    isNew
      ? `TACENDA_SECRET=${newSecret()}`
      : `# TACENDA_SECRET: the store exists, so keep using the secret printed when it was made; the server does not know it.`,
  ];
  return `${lines.join("\n")}\n`;
}

/** Whether the store had to be made. */
async function makeStore({ directory, keys }: RunningServer, id: string): Promise<boolean> {
  if ((await directory.getStore(DEFAULT_PROJECT, id)) !== null) return false;
  const store = { id, secrets: "one", maxVersions: DEFAULT_MAX_VERSIONS, createdAt: Date.now() } as const;
  const result = await directory.createStore(DEFAULT_PROJECT, store, await keys.createKeys(DEFAULT_PROJECT, id));
  if (result === "created") return true;
  throw new StartupError(
    result === "retired"
      ? `The store ${id} was destroyed, and its id is never used again. Choose another one with --store.`
      : `The store ${id} cannot be made. Choose another --data-dir.`,
  );
}

async function makeToken({ directory }: RunningServer, store: string): Promise<string> {
  const { id, text, digest } = newToken();
  const grants = [{ stores: [store], permissions: ["read" as const, "write" as const, "delete" as const] }];
  const row = { id, project: DEFAULT_PROJECT, name: "dev", digest, grants, expiresAt: null, mintedBy: null };
  if (await directory.createToken({ ...row, createdAt: Date.now() })) return text;
  throw new StartupError(`The project ${DEFAULT_PROJECT} was destroyed. Choose another --data-dir.`);
}

function newSecret(): string {
  return withChecksum(SECRET_PREFIX + randomBase62(RANDOM_LENGTH, randomBytes));
}
