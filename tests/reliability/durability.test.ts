/** No write is acknowledged before it is on the disk, seen from the kernel: a server, and PostgreSQL, under a system-call tracer. */

import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { HEAD_BYTES, PAYLOAD_OVERHEAD_BYTES, TAG_BYTES, paddedLength } from "@tacenda/protocol";
import { Tacenda, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { describe, expect, test } from "vitest";

import { type Edit, seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder, spawnServer } from "../server-process.ts";
import { DATABASES, freshPlace, sharedCluster, type DatabaseName, type Place } from "./databases.ts";
import { postmasterOf } from "./postmaster.ts";
import { reportBug, reportTrials } from "./report.ts";
import { ACKNOWLEDGE_BEFORE_COMMIT, SYNCHRONOUS_COMMIT_OFF, SYNCHRONOUS_NORMAL } from "./seeded-bugs.ts";
import { POSTGRES_LOG, SQLITE_LOG, STRACE, analyseTrace, type Durability } from "./trace.ts";

const ROOT_TOKEN = "root-token-of-the-durability-test-0123456789";
const STORE = "durable";
const SEQUENTIAL = 20;
const WRITERS = 8;
const WRITES_EACH = 10;
/** Large, so that what the log holds besides the records does not hide a missing one. */
const VALUE_BYTES = 131_072;
const RECORD_BYTES = HEAD_BYTES + paddedLength(PAYLOAD_OVERHEAD_BYTES + VALUE_BYTES) + TAG_BYTES;

const traceable = spawnSync("strace", ["-V"]).status === 0;

/**
 * Runs a server under the tracer, with PostgreSQL's processes if it has one, writes to it, and gives the verdict on the trace.
 * Some bugs that are planted in `bin` also make writes fail: `failures`.
 */
async function traceWrites(bin: string, database: DatabaseName): Promise<Durability & { failures: string[] }> {
  const place = await freshPlace(database);
  await makeStore(place);
  const trace = join(await freshFolder(), "trace");
  const others = database === "SQLite" ? [] : await postgresProcesses();
  const wrapper = [...STRACE, trace, ...others.flatMap((process) => ["-p", String(process)])];
  const server = await spawnServer({ bin, ...place, rootToken: ROOT_TOKEN, wrapper });
  const failures: string[] = [];
  const store = new Tacenda({ url: server.url, token: ROOT_TOKEN }).getStore(STORE, {
    secret: generateSecret(),
    stretch: "store",
  });
  const write = async (key: string) => {
    await store.setValue(key, "v".repeat(VALUE_BYTES)).catch((error: unknown) => failures.push(String(error)));
  };
  for (let index = 0; index < SEQUENTIAL; index++) await write(`alone-${index % 5}`);
  await Promise.all(
    Array.from({ length: WRITERS }, async (_, writer) => {
      for (let index = 0; index < WRITES_EACH; index++) await write(`writer-${writer}-${index % 3}`);
    }),
  );
  await server.end("SIGTERM");
  const log = database === "SQLite" ? SQLITE_LOG : POSTGRES_LOG;
  return { ...analyseTrace(await readFile(trace, "utf8"), RECORD_BYTES, log), failures };
}

/** By a server without bugs. */
async function makeStore(place: Place): Promise<void> {
  const server = await spawnServer({ ...place, rootToken: ROOT_TOKEN });
  await new TacendaAdmin({ url: server.url, token: ROOT_TOKEN }).stores.create(STORE);
  await server.end("SIGTERM");
}

/** Those that are there already; those that serve connections come later, and the tracer follows them. */
async function postgresProcesses(): Promise<number[]> {
  const cluster = await sharedCluster();
  const children = await cluster.query<{ pid: number }>(
    "select pid from pg_stat_activity where pid <> pg_backend_pid()",
  );
  return [await postmasterOf(cluster), ...children.map(({ pid }) => pid)];
}

const rowOf = (database: DatabaseName) =>
  ({ id: "R1", test: "the log is synced before each acknowledgement (strace)", database }) as const;

describe("an acknowledged write is on the disk", { timeout: 120_000 }, () => {
  test("this machine has strace", (context) => {
    if (!traceable && process.env.CI === undefined) context.skip("strace is not installed: install it to check");
    expect(traceable, "strace must be installed where CI is set").toBe(true);
  });

  test.runIf(traceable).each(DATABASES)("on %s writes are synced before their answers", async (database) => {
    const { acknowledged, early, failures } = await traceWrites(SERVER_BIN, database);
    const violations = early.length;
    reportTrials({ ...rowOf(database), trials: acknowledged, unit: "writes", losses: 0, violations });
    expect([...early, ...failures]).toEqual([]);
    expect(acknowledged).toBe(SEQUENTIAL + WRITERS * WRITES_EACH);
  });

  test.runIf(traceable).each<[bug: string, database: DatabaseName, edits: readonly Edit[]]>([
    ["synchronous=NORMAL", "SQLite", [SYNCHRONOUS_NORMAL]],
    ["acknowledge before commit", "SQLite", [ACKNOWLEDGE_BEFORE_COMMIT]],
    ["synchronous_commit=off", "PostgreSQL", SYNCHRONOUS_COMMIT_OFF],
    ["acknowledge before commit", "PostgreSQL", [ACKNOWLEDGE_BEFORE_COMMIT]],
  ])("this suite catches %s on %s", async (bug, database, edits) => {
    const { early } = await traceWrites(await seedServer(await freshFolder(), edits), database);
    reportBug({ ...rowOf(database), bug, caught: early.length > 0 });
    expect(early).not.toEqual([]);
  });
});
