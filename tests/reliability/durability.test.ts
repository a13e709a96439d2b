/** No write is acknowledged before it is on the disk, seen from the kernel: a server under a system-call tracer. */

import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { HEAD_BYTES, PAYLOAD_OVERHEAD_BYTES, TAG_BYTES, paddedLength } from "@tacenda/protocol";
import { Tacenda, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { describe, expect, test } from "vitest";

import { type Edit, seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder, spawnServer } from "../server-process.ts";
import { ACKNOWLEDGE_BEFORE_COMMIT, SYNCHRONOUS_NORMAL } from "./seeded-bugs.ts";
import { STRACE, analyseTrace, type Durability } from "./trace.ts";

const ROOT_TOKEN = "root-token-of-the-durability-test-0123456789";
const SEQUENTIAL = 20;
const WRITERS = 8;
const WRITES_EACH = 10;
/** Large, so that what the log holds besides the records does not hide a missing one. */
const VALUE_BYTES = 131_072;
const RECORD_BYTES = HEAD_BYTES + paddedLength(PAYLOAD_OVERHEAD_BYTES + VALUE_BYTES) + TAG_BYTES;

const traceable = spawnSync("strace", ["-V"]).status === 0;

/** Runs a server under the tracer, writes to it, and gives the verdict on the trace. */
async function traceWrites(bin: string): Promise<Durability> {
  const folder = await freshFolder();
  const trace = join(folder, "trace");
  const wrapper = [...STRACE, trace];
  const server = await spawnServer({ bin, dataDir: join(folder, "data"), rootToken: ROOT_TOKEN, wrapper });
  const { url } = server;
  await new TacendaAdmin({ url, token: ROOT_TOKEN }).stores.create("durable");
  const store = new Tacenda({ url, token: ROOT_TOKEN }).getStore("durable", {
    secret: generateSecret(),
    stretch: "store",
  });
  const write = (key: string) => store.setValue(key, "v".repeat(VALUE_BYTES));
  for (let index = 0; index < SEQUENTIAL; index++) await write(`alone-${index % 5}`);
  await Promise.all(
    Array.from({ length: WRITERS }, async (_, writer) => {
      for (let index = 0; index < WRITES_EACH; index++) await write(`writer-${writer}-${index % 3}`);
    }),
  );
  await server.end("SIGTERM");
  return analyseTrace(await readFile(trace, "utf8"), RECORD_BYTES);
}

async function traceBug(bug: Edit): Promise<Durability> {
  return await traceWrites(await seedServer(await freshFolder(), [bug]));
}

describe("an acknowledged write is on the disk", () => {
  test("this machine has strace", (context) => {
    if (!traceable && process.env.CI === undefined) context.skip("strace is not installed: install it to check");
    expect(traceable, "strace must be installed where CI is set").toBe(true);
  });

  test.runIf(traceable)("sequential and concurrent writes are synced before their answers", async () => {
    const { acknowledged, early } = await traceWrites(SERVER_BIN);
    expect(early).toEqual([]);
    expect(acknowledged).toBe(SEQUENTIAL + WRITERS * WRITES_EACH);
  });

  test.runIf(traceable).each([
    ["synchronous=NORMAL", SYNCHRONOUS_NORMAL],
    ["acknowledging before the commit", ACKNOWLEDGE_BEFORE_COMMIT],
  ])("this suite catches %s", async (_, bug) => {
    expect((await traceBug(bug)).early).not.toEqual([]);
  });
});
