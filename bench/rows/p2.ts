/** P2: a client's own work for a warm `getValue`: the whole call less a bare ky GET over the same in-memory `fetch`. */

import ky from "ky";

import { VALUE, memoryStore, requireValue } from "../fixture.ts";
import { type Plan, type RowResult, compare, interleave, ratio, roundsOf, timed } from "../measure.ts";
import { MemoryServer } from "../memory-server.ts";
import type { PeerClient } from "../peer.ts";
import { summarize } from "../stats.ts";
import { timeUnit } from "../unit.ts";
import { prepareOpen } from "./open.ts";

const BATCH = 200;
const WARM_UPS = 5;
const TARGET = { bound: "at most", value: 60 } as const;

export async function p2(plan: Plan): Promise<RowResult> {
  const rounds = roundsOf(plan, 60, 10);
  const server = new MemoryServer();
  const store = memoryStore(server.fetch);
  await store.setValue("warm", VALUE);
  const [url] = server.records.keys();
  if (url === undefined) throw new Error("The write did not reach the in-memory server.");
  requireValue(await store.getValue("warm"));
  const bare = ky.create({ fetch: server.fetch, retry: 0, timeout: false });
  const open = await prepareOpen();
  const peerGet = plan.peer && (await preparePeer(plan.peer));

  const { unit, call, bareGet, opening, peer } = await interleave(rounds, WARM_UPS, {
    unit: timeUnit,
    call: () => microsecondsEach(() => store.getValue("warm")),
    bareGet: () => microsecondsEach(() => bare(url).bytes()),
    opening: () => microsecondsEach(open),
    peer: () => timed(() => peerGet?.() ?? Promise.resolve()),
  });

  const inMicroseconds = (milliseconds: number) => milliseconds * 1000;
  return {
    measures: [
      {
        row: "P2",
        what: "warm getValue less a bare ky GET",
        unit: "µs",
        ours: compare(call, bareGet, (whole, base) => whole - base),
        target: TARGET,
        peer: peerGet && summarize(peer.map(inMicroseconds)),
      },
      { row: "P2", what: "of that, opening the record", unit: "µs", ours: summarize(opening), target: TARGET },
      {
        row: "P2",
        what: "warm getValue, whole",
        unit: "units",
        ours: compare(call, unit, (whole, one) => whole / inMicroseconds(one)),
        peer: peerGet && compare(peer, unit, ratio),
      },
    ],
    notes: [
      `P2: a whole warm getValue took ${median(call)} µs, a bare ky GET ${median(bareGet)} µs, both over an in-memory fetch.`,
    ],
  };
}

function median(samples: readonly number[]): string {
  return summarize(samples).median.toFixed(0);
}

async function microsecondsEach(work: () => unknown): Promise<number> {
  const milliseconds = await timed(async () => {
    for (let index = 0; index < BATCH; index++) await work();
  });
  return (milliseconds * 1000) / BATCH;
}

/** A repeated get of one key: the peer's client keeps nothing, so it derives both times again. */
async function preparePeer(peer: PeerClient): Promise<() => Promise<void>> {
  const secret = "the-peer-s-secret-of-the-benchmark";
  const encrypted = await peer.encryptValue(secret, "warm", VALUE);
  return async () => {
    await peer.hashKey(secret, "warm");
    requireValue(await peer.decryptValue(secret, "warm", encrypted));
  };
}
