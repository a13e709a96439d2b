/** P10: rotating the master key, with many records and with few; and what re-encryption takes, to which no target was set. */

import { setImmediate } from "node:timers/promises";

import { type Measure, type Plan, type RowResult, compare, interleave, ratio, roundsOf } from "../measure.ts";
import type { GeneratorHandlers } from "../processes/generator.ts";
import type { KeyHandlers, KeyWork } from "../processes/keys.ts";
import { type Child, startProcess } from "../processes/parent.ts";
import { quantileOf, summarize } from "../stats.ts";

const STORES = 200;
/** An index key and a data key for each. */
const WRAPS = 2 * STORES;
const FEW = 1_000;
const WARM_UPS = 3;
/** Rotations that make up one sample: one alone is at the mercy of a single slow fsync. */
const ROTATIONS = 3;

export async function p10(plan: Plan): Promise<RowResult> {
  const rotation = await rotateMaster(plan);
  const reencryption = await rotateData(plan);
  return {
    measures: [...rotation.measures, ...reencryption.measures],
    notes: [...rotation.notes, ...reencryption.notes],
  };
}

async function rotateMaster(plan: Plan): Promise<RowResult> {
  const many = plan.quick ? 50_000 : 1_000_000;
  const servers = { few: startProcess<KeyHandlers>("keys.ts"), many: startProcess<KeyHandlers>("keys.ts") };
  try {
    await servers.few.ask("fill", { stores: STORES, records: FEW });
    await servers.many.ask("fill", { stores: STORES, records: many });
    const samples = await interleave(roundsOf(plan, 20, 3), WARM_UPS, {
      few: () => rotations(servers.few),
      many: () => rotations(servers.many),
    });
    const of = (works: readonly Rotation[], field: keyof Rotation) => works.map((work) => work[field]);
    const measure = (what: string, field: keyof Rotation): Measure => ({
      row: "P10",
      what: `master-key rotation, ${what}, ${STORES} stores: ${many} records over ${FEW}`,
      unit: "×",
      ours: compare(of(samples.many, field), of(samples.few, field), ratio),
      target: { bound: "at most", value: 1.1 },
    });
    const describe = (records: number, works: readonly Rotation[]) => {
      const { median, p10: low, p90: high } = summarize(of(works, "milliseconds"));
      const cpu = summarize(of(works, "cpu")).median.toFixed(0);
      const each = ((median * 1000) / WRAPS).toFixed(0);
      return `${records} records ${median.toFixed(0)} ms (${low.toFixed(0)} – ${high.toFixed(0)}; ${cpu} of CPU), ${each} µs per key`;
    };
    return {
      measures: [measure("time", "milliseconds"), measure("CPU", "cpu")],
      notes: [
        `P10: a rotation wrapped ${WRAPS} keys anew; with ${describe(FEW, samples.few)}; ` +
          `with ${describe(many, samples.many)}.`,
      ],
    };
  } finally {
    await Promise.all(Object.values(servers).map((child) => child.stop()));
  }
}

/** Milliseconds of one rotation, the mean of some. */
interface Rotation {
  milliseconds: number;
  /** Of the server's process: waiting for the disk and other programs disturb it less. */
  cpu: number;
}

async function rotations(server: Child<KeyHandlers>): Promise<Rotation> {
  const sum: Rotation = { milliseconds: 0, cpu: 0 };
  for (let index = 0; index < ROTATIONS; index++) {
    const { milliseconds, cpu, fields } = await server.ask("rotateMaster", null);
    if (fields.rewrapped !== WRAPS) throw new Error(`A rotation wrapped ${String(fields.rewrapped)} keys anew.`);
    sum.milliseconds += milliseconds / ROTATIONS;
    sum.cpu += cpu / ROTATIONS;
  }
  return sum;
}

/** One round of re-encryption: its work, and what another client's GETs took meanwhile and just before. */
interface Round extends KeyWork {
  idle: number[];
  busy: number[];
}

async function rotateData(plan: Plan): Promise<RowResult> {
  const count = plan.quick ? 5_000 : 50_000;
  const server = startProcess<KeyHandlers>("keys.ts");
  const generator = startProcess<GeneratorHandlers>("generator.ts");
  try {
    await generator.ask("fill", { target: await server.ask("target", null), count });
    const rounds: Round[] = [];
    for (let left = roundsOf(plan, 5, 2); left > 0; left--) rounds.push(await reencrypt(server, generator));
    const wall = rounds.map(({ milliseconds }) => (milliseconds * 1000) / count);
    const cpu = summarize(rounds.map((round) => (round.cpu * 1000) / count)).median;
    const slow = (samples: readonly number[]) => quantileOf(samples, 0.99).toFixed(1);
    const middle = (samples: readonly number[]) => quantileOf(samples, 0.5).toFixed(1);
    const [idle, busy] = [rounds.flatMap((round) => round.idle), rounds.flatMap((round) => round.busy)];
    return {
      measures: [
        { row: "P10", what: `re-encryption of ${count} records, per record`, unit: "µs", ours: summarize(wall) },
      ],
      notes: [
        `P10: re-encryption rests half of the time; a record took ${cpu.toFixed(0)} µs of CPU in the server's process, the ` +
          "requests below included.",
        `P10: a GET of another client, one every 5 ms, took ${middle(busy)} ms (p99 ${slow(busy)} ms) during ` +
          `re-encryption, and ${middle(idle)} ms (p99 ${slow(idle)} ms) without.`,
      ],
    };
  } finally {
    await Promise.all([server.stop(), generator.stop()]);
  }
}

async function reencrypt(server: Child<KeyHandlers>, generator: Child<GeneratorHandlers>): Promise<Round> {
  const target = await server.ask("target", null);
  const idle = await generator.ask("probe", { target, seconds: 2 });
  const busy: number[] = [];
  const work = server.ask("rotateData", null);
  const ended = work.then(() => true);
  for (;;) {
    const reads = await generator.ask("probe", { target, seconds: 0.25 });
    // The last look went on behind the end.
    if (await Promise.race([ended, setImmediate(false)])) break;
    busy.push(...reads);
  }
  return { ...(await work), idle, busy };
}
