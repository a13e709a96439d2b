/**
 * `tacenda-server dev`: a running server with a store, a token and a secret, given as `.env` lines. A server never knows
 * a secret; `dev` alone makes one, because it is a developer's convenience that hands it out and forgets it.
 */

import { randomBytes } from "node:crypto";
import { resolve } from "node:path";

import { DEFAULT_MAX_VERSIONS, DEFAULT_PROJECT, RANDOM_LENGTH, SECRET_PREFIX, randomBase62 } from "@tacenda/protocol";

import { newToken, withChecksum } from "../auth/tokens.js";
import { createStoreWithKeys } from "../envelope/new-store.js";
import type { RunningServer } from "../server.js";
import { StartupError } from "../startup-error.js";
import { formatEnvironment, updateEnvFile } from "./env-file.js";
import { toServerOptions, type ServeFlags } from "./options.js";
import { createLogger, runServer, showRootToken } from "./process.js";

export interface DevFlags extends ServeFlags {
  store: string;
  writeEnv?: string;
}

export async function dev(flags: DevFlags, rootToken: string | undefined): Promise<void> {
  const logger = createLogger(flags.logLevel, 2);
  const options = {
    ...toServerOptions(flags, rootToken),
    ...(process.stderr.isTTY && { announceRootToken: (token: string) => showRootToken(token, process.stderr) }),
  };
  await runServer(options, logger, (server) => provide(server, flags));
}

const QUOTA = `The project ${DEFAULT_PROJECT} has as many stores or tokens as its quota allows. Choose another --data-dir.`;

/** Makes what a client needs, and prints it or writes it to the file. Only a new store has a secret that is known here. */
async function provide(server: RunningServer, { store, writeEnv }: DevFlags): Promise<void> {
  const isNew = (await server.directory.getStore(DEFAULT_PROJECT, store)) === null;
  const token = await makeToken(server, store);
  const secret = isNew ? newSecret() : null;
  const environment = { url: server.url, token, project: DEFAULT_PROJECT, store, secret };
  const prepare = async () => {
    if (isNew) await makeStore(server, store);
  };
  if (writeEnv === undefined) {
    await prepare();
    process.stdout.write(formatEnvironment(environment));
    return;
  }
  // The secret is on the disk before its store exists: no failure leaves a store that nobody has the secret of.
  await updateEnvFile(writeEnv, environment, prepare);
  process.stdout.write(`Listening on ${server.url}; the TACENDA_* lines are in ${resolve(writeEnv)}\n`);
}

async function makeStore({ directory, keys }: RunningServer, id: string): Promise<void> {
  const store = { id, secrets: "one", maxVersions: DEFAULT_MAX_VERSIONS, createdAt: Date.now() } as const;
  const result = await createStoreWithKeys(directory, keys, DEFAULT_PROJECT, store);
  if (result === "created") return;
  if (result === "over_quota") throw new StartupError(QUOTA);
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
  const result = await directory.createToken({ ...row, createdAt: Date.now() });
  if (result === "created") return text;
  if (result === "over_quota") throw new StartupError(QUOTA);
  throw new StartupError(`The project ${DEFAULT_PROJECT} was destroyed. Choose another --data-dir.`);
}

function newSecret(): string {
  return withChecksum(SECRET_PREFIX + randomBase62(RANDOM_LENGTH, randomBytes));
}
