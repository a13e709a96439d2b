/** A running app in-process on a real database, keyring and envelope, with tokens of every kind, for tests. */

import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { MIN_RECORD_BYTES, encodeKeyHash, type Grant } from "@tacenda/protocol";
import { onTestFinished } from "vitest";

import { startServer, type RunningServer, type ServerOptions } from "../src/server.js";

export const ROOT_TOKEN = "root-token-for-tests-0123456789abcdef";
/** The clock of the world at its start, milliseconds since the epoch. */
export const START = 1_800_000_000_000;

interface CallOptions {
  token?: string | undefined;
  headers?: Record<string, string>;
  json?: unknown;
  body?: Uint8Array | string;
}

export interface World extends RunningServer {
  readonly folder: string;
  /** What the server's clock shows; tests set it forward. */
  clock: { now: number };
  call(method: string, path: string, options?: CallOptions): Promise<Response>;
  mint(project: string, grants: Grant[], expiresAt?: number): Promise<string>;
}

/** A fresh folder, removed when the test ends. */
export async function freshFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "tacenda-server-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A server over a real socket, with the project "default", its stores "one" and "two", and the project "other". */
export async function openWorld(options: Partial<ServerOptions> = {}): Promise<World> {
  const folder = await freshFolder();
  const clock = { now: START };
  const server = await startServer({
    dataDir: join(folder, "data"),
    port: 0,
    rootToken: ROOT_TOKEN,
    now: () => clock.now,
    ...options,
  });
  onTestFinished(() => server.close());

  const call = (method: string, path: string, { token, headers, json, body }: CallOptions = {}) =>
    fetch(server.url + path, {
      method,
      headers: {
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(json !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(json !== undefined ? { body: JSON.stringify(json) } : body !== undefined && { body: body as BodyInit }),
    });
  const mint = async (project: string, grants: Grant[], expiresAt?: number) => {
    const json = { name: "test", grants, ...(expiresAt !== undefined && { expiresAt }) };
    const answer = await call("POST", `/v1/projects/${project}/tokens`, { token: ROOT_TOKEN, json });
    return ((await answer.json()) as { token: string }).token;
  };

  const root = { token: ROOT_TOKEN };
  await call("POST", "/v1/projects", { ...root, json: { id: "other" } });
  for (const [project, id] of [
    ["default", "one"],
    ["default", "two"],
    ["other", "one"],
  ]) {
    await call("POST", `/v1/projects/${project ?? ""}/stores`, { ...root, json: { id } });
  }
  return { ...server, folder, clock, call, mint };
}

/** Bytes with a good head and noise behind it, as a server sees a sealed record. */
export function sealedRecord({ state = 0, expiresAt = 0, length = MIN_RECORD_BYTES } = {}): Uint8Array {
  const record = new Uint8Array(randomBytes(length));
  record.set([1, 1, state]);
  new DataView(record.buffer).setBigUint64(3, BigInt(expiresAt));
  return record;
}

/** Path of a record of a random key. */
export function randomRecordPath(store = "one", project = "default"): string {
  return `/v1/projects/${project}/stores/${store}/records/${encodeKeyHash(randomBytes(32))}`;
}

/** The code in an error's body. */
export async function errorCode(answer: Response): Promise<string> {
  return ((await answer.json()) as { error: { code: string } }).error.code;
}
