/**
 * A PostgreSQL whose commits wait for a standby that is away: nothing is acknowledged meanwhile, not even what an administrator
 * cuts short; requests are answered in time; the server takes no more connections than it may, and goes on by itself.
 */

import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, TacendaError, generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { expect, onTestFinished, test } from "vitest";

import { seedServer, type Edit } from "../seeded-server.ts";
import { freshFolder, spawnServer } from "../server-process.ts";
import { freshPlace, sharedCluster } from "./databases.ts";
import { Ledger } from "./ledger.ts";
import { reportBug, reportTrials } from "./report.ts";
import { COMMITS_GIVEN_UP, REPLAY_UNCONFIRMED, SHORT_ANSWER_TIMEOUT } from "./seeded-bugs.ts";

const ROOT_TOKEN = "root-token-of-the-standby-test-0123456789abcdef";
const STORE = "ledger";
const WRITERS = 12;
const CONNECTIONS = 6;
/** Milliseconds without the standby, and after the waits for it were cut short. Together longer than the server's limit for an answer. */
const AWAY = 4_000;
const CUT_SHORT = 6_000;
/** Milliseconds after which every request has its answer: 8 s after its last attempt, which begins within 4 s. */
const LIMIT = 15_000;

const BACKENDS = "select pid from pg_stat_activity where application_name = 'tacenda-server'";
const CUT_SHORT_WAITS = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'";

interface Outcome {
  acknowledged: number;
  faults: string[];
}

async function setStandby(name: string): Promise<void> {
  const cluster = await sharedCluster();
  await cluster.query(`alter system set synchronous_standby_names = '${name}'`);
  await cluster.query("select pg_reload_conf()");
  await sleep(200);
}

async function writeWithoutStandby(edits: readonly Edit[]): Promise<Outcome> {
  const cluster = await sharedCluster();
  const place = await freshPlace("PostgreSQL");
  const bin = await seedServer(await freshFolder(), [SHORT_ANSWER_TIMEOUT, ...edits]);
  const flags = ["--database-connections", String(CONNECTIONS)];
  const server = await spawnServer({ bin, ...place, flags, rootToken: ROOT_TOKEN });
  const { url } = server;
  await new TacendaAdmin({ url, token: ROOT_TOKEN }).stores.create(STORE);
  const ledger = new Ledger();
  const faults: string[] = [];
  let isOver = false;
  const timed: typeof globalThis.fetch = async (input, init) => {
    const begun = performance.now();
    const answer = await ledger.fetch(input, init);
    const time = performance.now() - begun;
    if (time > LIMIT) faults.push(`a request took ${Math.round(time)} ms`);
    return answer;
  };
  const store = new Tacenda({ url, token: ROOT_TOKEN, fetch: timed, timeout: 60_000 }).getStore(STORE, {
    secret: generateSecret(),
    stretch: "store",
  });
  const write = async (writer: number) => {
    for (let count = 0; !isOver; count++) {
      try {
        await store.setValue(`${writer}-${count}`, "value");
        await sleep(20);
      } catch (error) {
        if (!TacendaError.is(error) || !error.retryable) faults.push(`writing: ${String(error)}`);
      }
    }
  };
  const look = async (milliseconds: number, most: number) => {
    const end = Date.now() + milliseconds;
    while (Date.now() < end) {
      await sleep(100);
      const backends = (await cluster.query(BACKENDS)).length;
      if (backends > most) faults.push(`the server has ${backends} connections`);
      if ((await store.getValue("before")) !== "v") faults.push("reads otherwise");
    }
  };
  await store.setValue("before", "v");
  await setStandby("nobody");
  const before = ledger.acknowledged;
  const writers = Array.from({ length: WRITERS }, (_, writer) => write(writer));
  try {
    // One more for each commit may ask what it waits for.
    await look(AWAY, 2 * CONNECTIONS);
    const { length } = await cluster.query(CUT_SHORT_WAITS);
    if (length === 0) faults.push("no commit waits");
    await look(CUT_SHORT, 2 * CONNECTIONS);
    const early = ledger.acknowledged - before;
    if (early > 0) faults.push(`${early} writes were acknowledged that only one machine has`);
  } finally {
    await setStandby("");
  }
  // By itself, and soon.
  await expect.poll(() => ledger.acknowledged - before, { timeout: 60_000 }).toBeGreaterThan(5 * WRITERS);
  isOver = true;
  await Promise.all(writers);
  faults.push(...(await ledger.audit(url, ROOT_TOKEN)));
  await server.end("SIGTERM");
  return { acknowledged: ledger.acknowledged, faults: [...new Set(faults)] };
}

test("a write that is refused waits for no standby", async () => {
  const server = await spawnServer({ ...(await freshPlace("PostgreSQL")), rootToken: ROOT_TOKEN });
  await new TacendaAdmin({ url: server.url, token: ROOT_TOKEN }).stores.create(STORE);
  const secret = generateSecret();
  const open = () => new Tacenda({ url: server.url, token: ROOT_TOKEN, timeout: 60_000 }).getStore(STORE, { secret });
  await open().setValue("taken", "v");
  await setStandby("nobody");
  onTestFinished(() => setStandby(""));
  // It has never seen the key, and so writes without reading first.
  await expect(open().createValue("taken", "w")).rejects.toMatchObject({ code: "already_exists" });
  await setStandby("");
  await server.end("SIGTERM");
});

const subject = { id: "R6", test: "the standby that commits wait for is away", database: "PostgreSQL" } as const;

test("while the standby is away nothing is acknowledged, and nothing hangs", { timeout: 180_000 }, async () => {
  const { acknowledged, faults } = await writeWithoutStandby([]);
  const losses = faults.filter((fault) => fault.includes("acknowledged")).length;
  reportTrials({ ...subject, trials: acknowledged, unit: "writes", losses, violations: faults.length - losses });
  expect(faults).toEqual([]);
});

test.each([
  ["replays are not confirmed", REPLAY_UNCONFIRMED, "acknowledged that only one machine has"],
  ["waiting commits are given up", COMMITS_GIVEN_UP, "connections"],
])("this test catches that %s", { timeout: 180_000 }, async (bug, edit, fault) => {
  const faults = (await writeWithoutStandby([edit])).faults.join("\n");
  const caught = faults.includes(fault);
  reportBug({ ...subject, bug, caught });
  expect(caught, faults).toBe(true);
});
