/** How the server's cost grows with connections, with the size of values and with stores; no targets, but curves. */

import { type Measure, type Plan, type RowResult, roundsOf } from "../measure.ts";
import { RECORD_BYTES, STORE, recordBytes } from "../fixture.ts";
import type { Target } from "../processes/contender.ts";
import type { GeneratorHandlers } from "../processes/generator.ts";
import { type Child, startProcess } from "../processes/parent.ts";
import type { TacendaHandlers } from "../processes/tacenda.ts";
import { summarize } from "../stats.ts";

const METHODS = ["GET", "PUT"] as const;
const CONNECTIONS = [1, 8, 64, 256];
/** Bytes of values. */
const SIZES = [32, 1_024, 32_768, 1_048_576];
const STORES = [1, 100, 10_000];
const RECORDS = 1_000;
/** So few that all records of one size are in memory. */
const FILLED_BYTES = 33_554_432;
const RESTING = 900;
const KIB = 1_024;

interface World {
  server: Child<TacendaHandlers>;
  generator: Child<GeneratorHandlers>;
  target: Target;
  rounds: number;
  seconds: number;
}

export async function growth(plan: Plan): Promise<RowResult> {
  const server = startProcess<TacendaHandlers>("tacenda.ts");
  const generator = startProcess<GeneratorHandlers>("generator.ts");
  try {
    const target = await server.ask("target", undefined);
    const world = { server, generator, target, rounds: roundsOf(plan, 5, 1), seconds: plan.quick ? 0.5 : 2 };
    const stores = plan.quick ? STORES.slice(0, -1) : STORES;
    // First, while the process has no memory left over from other work.
    const notes = [await restingConnections(world)];
    return {
      measures: [...(await byConnections(world)), ...(await bySize(world)), ...(await byStores(world, stores))],
      notes,
    };
  } finally {
    await Promise.all([server.stop(), generator.stop()]);
  }
}

async function byConnections(world: World): Promise<Measure[]> {
  await world.generator.ask("fill", { target: world.target, count: RECORDS });
  const measures: Measure[] = [];
  for (const connections of CONNECTIONS) {
    for (const method of METHODS)
      measures.push(await measure(world, `${connections} connections`, method, { connections }));
  }
  return measures;
}

async function bySize(world: World): Promise<Measure[]> {
  const measures: Measure[] = [];
  for (const size of SIZES) {
    const bytes = recordBytes(size);
    const count = Math.min(RECORDS, Math.floor(FILLED_BYTES / bytes));
    // Few at once: a thousand large bodies would wait for the server's body memory.
    await world.generator.ask("fill", { target: world.target, count, bytes, connections: 8 });
    for (const method of METHODS) {
      measures.push(await measure(world, `values of ${size} bytes, 8 connections`, method, { bytes, connections: 8 }));
    }
  }
  return measures;
}

/** One record in each store, so that nearly every read is of another store than the one before. */
async function byStores(world: World, counts: readonly number[]): Promise<Measure[]> {
  const measures: Measure[] = [];
  const names = [STORE];
  for (const count of counts) {
    const added = Array.from({ length: count - names.length }, (_, index) => `${STORE}-${names.length + index}`);
    const target = await world.server.ask("addStores", added);
    names.push(...added);
    await world.generator.ask("fill", { target, count: Math.max(count, RECORDS), stores: names });
    measures.push(await measure({ ...world, target }, `${count} stores`, "GET", {}));
  }
  return measures;
}

async function measure(
  { generator, target, rounds, seconds }: World,
  what: string,
  method: "GET" | "PUT",
  shape: { connections?: number; bytes?: number },
): Promise<Measure> {
  const samples: number[] = [];
  // The first warms up.
  for (let round = 0; round <= rounds; round++) {
    const load = await generator.ask("load", { target, method, seconds, ...shape });
    if (round > 0) samples.push(load.requests / load.seconds);
  }
  return { row: "GROWTH", what: `${method}, ${what}`, unit: "/s", ours: summarize(samples) };
}

async function restingConnections({ server, generator, target }: World): Promise<string> {
  await generator.ask("fill", { target, count: RECORDS, bytes: RECORD_BYTES });
  const before = await server.ask("memory", undefined);
  await generator.ask("rest", { target, count: RESTING });
  const bytes = (await server.ask("memory", undefined)) - before;
  await generator.ask("rest", { target, count: 0 });
  return `GROWTH: ${RESTING} connections at rest took ${(bytes / RESTING / KIB).toFixed(0)} KiB of memory each.`;
}
