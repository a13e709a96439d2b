/**
 * P1: a client's own work for a cold `setValue` and `getValue`, in units: the whole call less a bare ky request with the same
 * bytes over the same in-memory `fetch`, as in P2, for the peer's figure has no HTTP in it either. The whole call, and the
 * process's first, are reported apart.
 */

import ky from "ky";

import { SECRET, VALUE, memoryStore, requireValue } from "../fixture.ts";
import { type Measure, type Plan, type RowResult, compare, interleave, roundsOf, timed } from "../measure.ts";
import { MemoryServer } from "../memory-server.ts";
import type { PeerClient } from "../peer.ts";
import type { FirstCall, FirstCallHandlers } from "../processes/first-call.ts";
import { startProcess } from "../processes/parent.ts";
import { summarize } from "../stats.ts";
import { timeUnit } from "../unit.ts";

const WARM_UPS = 3;
const TARGET = { bound: "at most", value: 1.05 } as const;

export async function p1(plan: Plan): Promise<RowResult> {
  const rounds = roundsOf(plan, 60, 10);
  const server = new MemoryServer();
  await prepare(server, WARM_UPS + rounds);
  server.keeps = false;
  const store = memoryStore(server.fetch);
  const peer = plan.peer && (await peerCalls(plan.peer, WARM_UPS + rounds));

  const units: number[] = [];
  const inUnits = (work: (round: number) => Promise<unknown>) => async (round: number) => {
    const unit = await timeUnit();
    units.push(unit);
    return (await timed(() => work(round))) / unit;
  };
  const bare = ky.create({ fetch: server.fetch, retry: 0, timeout: false });
  const [recordUrl = "", record = new Uint8Array(0)] = [...server.records][0] ?? [];
  const { set, get, barePut, bareGet, peerSet, peerGet } = await interleave(rounds, WARM_UPS, {
    set: inUnits((round) => store.setValue(`set/${round}`, VALUE)),
    get: inUnits(async (round) => requireValue(await store.getValue(`get/${round}`))),
    barePut: inUnits(() => bare.put(recordUrl, { body: record })),
    bareGet: inUnits(() => bare(recordUrl).bytes()),
    peerSet: inUnits(async (round) => peer?.set(`set/${round}`)),
    peerGet: inUnits(async (round) => peer?.get(round)),
  });

  const own = (what: string, ours: number[], bareRequest: number[], peers: number[]): Measure => ({
    row: "P1",
    what: `cold ${what}`,
    unit: "units",
    ours: compare(ours, bareRequest, (whole, base) => whole - base),
    target: TARGET,
    peer: peer && summarize(peers),
  });
  const whole = (what: string, ours: number[]): Measure => ({
    row: "P1",
    what: `cold ${what}, whole`,
    unit: "units",
    ours: summarize(ours),
  });
  return {
    measures: [
      own("setValue less a bare ky PUT", set, barePut, peerSet),
      own("getValue less a bare ky GET", get, bareGet, peerGet),
      whole("setValue", set),
      whole("getValue", get),
      await firstCalls("setValue", server, roundsOf(plan, 9, 3)),
      await firstCalls("getValue", server, roundsOf(plan, 9, 3)),
    ],
    notes: [`P1: one unit took ${summarize(units).median.toFixed(1)} ms, measured anew before each call.`],
  };
}

/** Writes `count` records with another client, so that the one we measure meets them cold. */
async function prepare(server: MemoryServer, count: number): Promise<void> {
  const writer = memoryStore(server.fetch);
  for (let round = 0; round < count; round++) await writer.setValue(`get/${round}`, VALUE);
}

/** What the peer's client does for a set and a successful get. */
async function peerCalls(peer: PeerClient, count: number) {
  const secret = "the-peer-s-secret-of-the-benchmark";
  const encrypted: string[] = [];
  for (let round = 0; round < count; round++) encrypted.push(await peer.encryptValue(secret, `get/${round}`, VALUE));
  return {
    set: async (key: string) => {
      await peer.hashKey(secret, key);
      await peer.encryptValue(secret, key, VALUE);
    },
    get: async (round: number) => {
      await peer.hashKey(secret, `get/${round}`);
      requireValue(await peer.decryptValue(secret, `get/${round}`, encrypted[round] ?? ""));
    },
  };
}

/** The very first call of fresh processes. */
async function firstCalls(call: FirstCall["call"], { records }: MemoryServer, rounds: number): Promise<Measure> {
  const key = call === "setValue" ? "set/first" : "get/0";
  const ratios: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const child = startProcess<FirstCallHandlers>("first-call.ts");
    ratios.push(await child.ask("firstCall", { call, key, secret: SECRET, records }));
    await child.stop();
  }
  return { row: "P1", what: `a process's first ${call}`, unit: "units", ours: summarize(ratios) };
}
