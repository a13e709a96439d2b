/** Loads the server and the bare Hono app in turns, for P7 and P8. */

import { type Measure, type Plan, type RowResult, compare, interleave, ratio, roundsOf } from "../measure.ts";
import type { ComparedHandlers } from "../processes/contender.ts";
import type { GeneratorHandlers } from "../processes/generator.ts";
import { type Child, startProcess } from "../processes/parent.ts";
import { summarize } from "../stats.ts";

/** Records that GETs choose from. */
const RECORDS = 1_000;
const WARM_UPS = 2;
/** Above this share of a core the generator is the bottleneck. */
const BUSY = 0.95;

interface Question {
  row: string;
  method: "GET" | "PUT";
  /** What the server must at least reach of the bare app. */
  target: number;
}

/** One contender's round. */
interface Sample {
  perSecond: number;
  /** Milliseconds of the server's processor time per request. */
  cpu: number;
  generatorLoad: number;
}

export async function compareServers(plan: Plan, { row, method, target }: Question): Promise<RowResult> {
  const children = {
    ours: startProcess<ComparedHandlers>("tacenda.ts"),
    bare: startProcess<ComparedHandlers>("bare.ts"),
    generator: startProcess<GeneratorHandlers>("generator.ts"),
  };
  try {
    const { ours, bare, generator } = children;
    if (method === "GET") await generator.ask("fill", { target: await ours.ask("target", null), count: RECORDS });
    const seconds = plan.quick ? 1 : 3;
    const samples = await interleave(roundsOf(plan, 12, 3), WARM_UPS, {
      bare: () => sample(bare, generator, method, seconds),
      ours: () => sample(ours, generator, method, seconds),
    });
    const bytes = {
      ours: await allocation(ours, generator, method),
      bare: await allocation(bare, generator, method),
    };
    const result = report({ row, method, target }, samples);
    const kib = (value: number) => (value / 1024).toFixed(1);
    result.notes.push(
      `${row}: a request allocates ${kib(bytes.ours)} KiB on the heap; of bare Hono ${kib(bytes.bare)} KiB.`,
    );
    return result;
  } finally {
    await Promise.all(Object.values(children).map((child) => child.stop()));
  }
}

async function sample(
  server: Child<ComparedHandlers>,
  generator: Child<GeneratorHandlers>,
  method: "GET" | "PUT",
  seconds: number,
): Promise<Sample> {
  const target = await server.ask("target", null);
  const before = await server.ask("cpu", null);
  const load = await generator.ask("load", { target, method, seconds });
  const after = await server.ask("cpu", null);
  return {
    perSecond: load.requests / load.seconds,
    cpu: (after - before) / load.requests,
    generatorLoad: load.generatorLoad,
  };
}

/** Bytes that a request allocates on the server's heap, in a round of its own: sampling them takes time. */
async function allocation(
  server: Child<ComparedHandlers>,
  generator: Child<GeneratorHandlers>,
  method: "GET" | "PUT",
): Promise<number> {
  const target = await server.ask("target", null);
  await server.ask("allocated", null);
  const { requests } = await generator.ask("load", { target, method, seconds: 1 });
  return (await server.ask("allocated", null)) / requests;
}

function report({ row, method, target }: Question, { ours, bare }: Record<"ours" | "bare", Sample[]>): RowResult {
  const of = (samples: readonly Sample[], field: keyof Sample) => samples.map((one) => one[field]);
  const median = (samples: readonly Sample[], field: keyof Sample) => summarize(of(samples, field)).median;
  const measure = (what: string, field: "perSecond" | "cpu"): Measure => ({
    row,
    what: `${method}, ${what}, against bare Hono`,
    unit: "×",
    ours: compare(of(ours, field), of(bare, field), field === "cpu" ? (one, other) => other / one : ratio),
    target: { bound: "at least", value: target },
  });
  const describe = (name: string, samples: readonly Sample[]) =>
    `${name} ${median(samples, "perSecond").toFixed(0)} requests/s at ${(median(samples, "cpu") * 1000).toFixed(0)} µs of ` +
    `server CPU each (generator ${(median(samples, "generatorLoad") * 100).toFixed(0)} % busy)`;
  const notes = [`${row}: ${describe("Tacenda", ours)}; ${describe("bare Hono", bare)}.`];
  if (median(bare, "generatorLoad") > BUSY) {
    notes.push(`${row}: the generator could not keep up, so requests/s flatters us: go by CPU.`);
  }
  return { measures: [measure("requests/s", "perSecond"), measure("requests per CPU second", "cpu")], notes };
}
