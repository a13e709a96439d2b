/** A real server on a free port with a store and a token, and clients of it, for tests from outside. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Tacenda, type Store, type StoreOptions, type TacendaOptions, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { startServer, type RunningServer, type ServerOptions } from "@tacenda/server";

import { startCluster } from "./postgres.ts";

const ROOT_TOKEN = "root-token-of-the-tests-0123456789abcdef";

export interface World extends AsyncDisposable {
  folder: string;
  server: RunningServer;
  url: string;
  admin: TacendaAdmin;
  /** Reads, writes and deletes in every store of the project "default". */
  token: string;
  secret: string;
  /** A fresh client: its marks and derived keys are its own. */
  client(options?: TacendaOptions): Tacenda;
  /** The store "user-tokens" of a fresh client. */
  store(options?: TacendaOptions & StoreOptions): Store;
}

/** Starts it, on PostgreSQL where TACENDA_TEST_DATABASE_URL says so (npm run test:postgres). The stores "user-tokens" and "other" exist, and "any", whose clients may have different secrets. */
export async function openWorld(options: Partial<ServerOptions> = {}): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), "tacenda-"));
  const cluster = process.env.TACENDA_TEST_DATABASE_URL ? await startCluster() : null;
  const databaseUrl = await cluster?.createDatabase();
  const place = { dataDir: join(folder, "data"), ...(databaseUrl !== undefined && { databaseUrl }) };
  const server = await startServer({ ...place, port: 0, rootToken: ROOT_TOKEN, ...options });
  const { url } = server;
  const admin = new TacendaAdmin({ url, token: ROOT_TOKEN });
  for (const id of ["user-tokens", "other"]) await admin.stores.create(id);
  await admin.stores.create("any", { secrets: "any" });
  const { token } = await admin.tokens.create("tests", [{ stores: ["*"], permissions: ["read", "write", "delete"] }]);
  const secret = generateSecret();
  const client = (given: TacendaOptions = {}) => new Tacenda({ url, token, ...given });
  return {
    folder,
    server,
    url,
    admin,
    token,
    secret,
    client,
    store: ({ stretch, iterations, ...given } = {}) =>
      client(given).getStore("user-tokens", { secret: given.secret ?? secret, stretch, iterations }),
    async [Symbol.asyncDispose]() {
      await server.close();
      if (databaseUrl !== undefined) await cluster?.dropDatabase(databaseUrl);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A `fetch` that does as the real one, but lets `change` alter each exchange. */
export function meddlingFetch(
  change: (
    request: Request,
    pass: (request: Request) => Promise<Response>,
    count: number,
  ) => Promise<Response> | Response,
): typeof globalThis.fetch {
  let count = 0;
  return async (input, init) => {
    const request = new Request(input, init);
    // Secret checks go on undisturbed, beside whatever is being tested.
    if (request.url.endsWith("/secret-check")) return await globalThis.fetch(request);
    return await change(request, (changed) => globalThis.fetch(changed), ++count);
  };
}

/** The same answer with other bytes or headers. */
export async function altered(
  response: Response,
  change: {
    body?: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>;
    headers?: Record<string, string | null>;
    status?: number;
  },
): Promise<Response> {
  const bytes = new Uint8Array(await response.arrayBuffer());
  const headers = new Headers(response.headers);
  headers.delete("content-length");
  for (const [name, value] of Object.entries(change.headers ?? {})) {
    if (value === null) headers.delete(name);
    else headers.set(name, value);
  }
  return new Response(change.body?.(bytes) ?? bytes, { status: change.status ?? response.status, headers });
}
