/** P9: GET and PUT of uniformly random keys with many records, over the same with 10 thousand. */

import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir, totalmem } from "node:os";
import { join } from "node:path";

import { startCluster, type Cluster } from "../../tests/postgres.ts";
import { type Measure, type Plan, type RowResult, compare, ratio, roundsOf, timed } from "../measure.ts";
import type { ScaleGeneratorHandlers } from "../processes/scale-generator.ts";
import type { ScaleHandlers } from "../processes/scale.ts";
import { type Child, startProcess } from "../processes/parent.ts";
import { quantileOf, summarize } from "../stats.ts";

const FEW = 10_000;
const USUAL = 500_000;
const WARM_UPS = 2;
const CONNECTIONS = 64;
/** How often the contenders take turns in a round. */
const TURNS = 8;
const SEED = "the seed of P9";

/** What is not named is PostgreSQL's own default. Its manual advises a quarter of the memory for the first. */
const postgresSettings = (sharedBuffers = `${Math.floor(totalmem() / 4 / 2 ** 20)}MB`) => [
  `shared_buffers=${sharedBuffers}`,
  ...["max_wal_size=8GB", "checkpoint_timeout=15min"],
];

type ScaleDatabase = Plan["databases"][number];

export async function p9(plan: Plan): Promise<RowResult> {
  const results: RowResult[] = [];
  for (const database of plan.databases) {
    process.stderr.write(`  on ${database}\n`);
    results.push(await measure(database, plan));
  }
  return { measures: results.flatMap((one) => one.measures), notes: results.flatMap((one) => one.notes) };
}

/** A server with this many records, started anew after they were written. */
interface Contender {
  records: number;
  server: Child<ScaleHandlers>;
  loadSeconds: number;
  startMilliseconds: number;
  bytes: number;
}

async function measure(database: ScaleDatabase, plan: Plan): Promise<RowResult> {
  const few = plan.quick ? 1_000 : FEW;
  const many = plan.records ?? (plan.quick ? 20_000 : USUAL);
  const folder = await makeFolder(database, plan.folder);
  const generator = startProcess<ScaleGeneratorHandlers>("scale-generator.ts");
  const servers: Child<ScaleHandlers>[] = [];
  let cluster: Cluster | undefined;
  try {
    if (database === "PostgreSQL") {
      const settings = postgresSettings(plan.sharedBuffers);
      cluster = await startCluster({ settings, ...(plan.folder !== undefined && { folder: join(folder, "cluster") }) });
    }
    const prepare = async (records: number) => {
      const contender = await start(join(folder, `of-${records}`), cluster, records, plan.shuffled);
      servers.push(contender.server);
      return contender;
    };
    const contenders = { few: await prepare(few), many: await prepare(many) };
    if (!plan.cold) for (const { server } of [contenders.many, contenders.few]) await server.ask("warm", null);
    const seconds = plan.quick ? 0.3 : 1;
    const samples: Pair<Sample[]> = { few: [], many: [] };
    const rounds = roundsOf(plan, 12, 2);
    for (let round = 0; round < WARM_UPS + rounds; round++) {
      const both = await sample(contenders, generator, seconds);
      if (round < WARM_UPS) continue;
      samples.few.push(both.few);
      samples.many.push(both.many);
    }
    return await report(database, contenders, samples);
  } finally {
    await Promise.all([...servers, generator].map((child) => child.stop()));
    await cluster?.stop();
    if (plan.folder === undefined) await rm(folder, { recursive: true });
  }
}

async function makeFolder(database: ScaleDatabase, kept: string | undefined): Promise<string> {
  if (kept === undefined) return await mkdtemp(join(tmpdir(), "tacenda-bench-"));
  const folder = join(kept, database);
  await mkdir(database === "PostgreSQL" ? join(folder, "cluster") : folder, { recursive: true });
  // PostgreSQL is another user when this one is root.
  if (process.getuid?.() === 0) await chmod(folder, 0o711);
  return folder;
}

/** What is noted beside a database that was filled. */
interface Filled {
  loadSeconds: number;
  /** On PostgreSQL. */
  database: string | null;
}

/** In a folder of its own, filled unless an earlier run has done it. */
async function start(
  folder: string,
  cluster: Cluster | undefined,
  records: number,
  shuffled: boolean,
): Promise<Contender> {
  const note = join(folder, "filled.json");
  if (records <= FEW) await rm(folder, { recursive: true, force: true });
  if (!existsSync(note)) await fill(folder, note, cluster, { seed: SEED, records, shuffled });
  const { loadSeconds, database } = JSON.parse(await readFile(note, "utf8")) as Filled;
  const databaseUrl = database === null ? null : (cluster?.urlOf(database) ?? null);
  const server = startProcess<ScaleHandlers>("scale.ts");
  const startMilliseconds = await server.ask("start", { dataDir: join(folder, "data"), databaseUrl });
  return { records, server, loadSeconds, startMilliseconds, bytes: await server.ask("size", null) };
}

/** By another process than the one that is measured, which so has only the memory that it needs. */
async function fill(
  folder: string,
  note: string,
  cluster: Cluster | undefined,
  load: { seed: string; records: number; shuffled: boolean },
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const databaseUrl = (await cluster?.createDatabase()) ?? null;
  const writer = startProcess<ScaleHandlers>("scale.ts");
  try {
    await writer.ask("start", { dataDir: join(folder, "data"), databaseUrl });
    const loadSeconds = (await timed(() => writer.ask("fill", load))) / 1000;
    const database = databaseUrl && new URL(databaseUrl).pathname.slice(1);
    await writeFile(note, JSON.stringify({ loadSeconds, database } satisfies Filled));
  } finally {
    await writer.stop();
  }
}

/** One contender's round. Times are in milliseconds, each of one request. */
interface Sample {
  get: number[];
  put: number[];
  /** Of many connections at once. */
  getsPerSecond: number;
  putsPerSecond: number;
}

type Pair<T> = Record<"few" | "many", T>;

/** The contenders take turns many times in a round: what else the machine does meets both alike. */
async function sample(
  contenders: Pair<Contender>,
  generator: Child<ScaleGeneratorHandlers>,
  seconds: number,
): Promise<Pair<Sample>> {
  const load = async (method: "GET" | "PUT", connections: number): Promise<Pair<number[]>> => {
    const samples: Pair<number[]> = { few: [], many: [] };
    for (let turn = 0; turn < TURNS; turn++) {
      for (const side of turn % 2 === 0 ? (["few", "many"] as const) : (["many", "few"] as const)) {
        const { server, records } = contenders[side];
        const target = await server.ask("target", null);
        const asked = { target, seed: SEED, records, method, connections, seconds: seconds / TURNS };
        samples[side].push(...(await generator.ask("load", asked)));
      }
    }
    return samples;
  };
  const [get, put] = [await load("GET", 1), await load("PUT", 1)];
  const [gets, puts] = [await load("GET", CONNECTIONS), await load("PUT", CONNECTIONS)];
  const of = (side: "few" | "many"): Sample => ({
    ...{ get: get[side], put: put[side] },
    getsPerSecond: gets[side].length / seconds,
    putsPerSecond: puts[side].length / seconds,
  });
  return { few: of("few"), many: of("many") };
}

async function report(
  database: ScaleDatabase,
  { few, many }: Pair<Contender>,
  samples: Pair<Sample[]>,
): Promise<RowResult> {
  const over = `${many.records} records over ${few.records}`;
  const line = (what: string, value: (sample: Sample) => number, target?: Measure["target"]): Measure => ({
    row: "P9",
    what: `${database}, ${what}: ${over}`,
    unit: "×",
    ours: compare(samples.many.map(value), samples.few.map(value), ratio),
    ...(target && { target }),
  });
  const times = (method: "get" | "put") => {
    const describe = (side: readonly Sample[]) => {
      const all = side.flatMap((one) => one[method]);
      return `median ${quantileOf(all, 0.5).toFixed(2)} ms, p99 ${quantileOf(all, 0.99).toFixed(2)} ms (${all.length} requests)`;
    };
    return `${method.toUpperCase()} with ${many.records} ${describe(samples.many)}; with ${few.records} ${describe(samples.few)}`;
  };
  const rate = (side: readonly Sample[], field: "getsPerSecond" | "putsPerSecond") =>
    summarize(side.map((one) => one[field])).median.toFixed(0);
  const rates = (name: string, field: "getsPerSecond" | "putsPerSecond") =>
    `${name} ${rate(samples.many, field)}/s and ${rate(samples.few, field)}/s`;
  const memory = async ({ server }: Contender) => `${((await server.ask("memory", null)) / 2 ** 20).toFixed(0)} MiB`;
  return {
    measures: [
      line("GET, median", ({ get }) => quantileOf(get, 0.5), { bound: "at most", value: 1.2 }),
      line("GET, p99", ({ get }) => quantileOf(get, 0.99)),
      line("PUT, median", ({ put }) => quantileOf(put, 0.5)),
      line("PUT, p99", ({ put }) => quantileOf(put, 0.99)),
      line(`GETs/s, ${CONNECTIONS} connections`, ({ getsPerSecond }) => getsPerSecond),
      line(`PUTs/s, ${CONNECTIONS} connections`, ({ putsPerSecond }) => putsPerSecond),
    ],
    notes: [
      `P9, ${database}: ${many.records} records were written in ${many.loadSeconds.toFixed(0)} s, ` +
        `${((many.loadSeconds * 1e6) / many.records).toFixed(0)} µs each, and take ` +
        `${(many.bytes / many.records).toFixed(0)} bytes each on the disk.`,
      `P9, ${database}, one connection: ${times("get")}. ${times("put")}.`,
      `P9, ${database}, ${CONNECTIONS} connections, with many and with few: ${rates("GET", "getsPerSecond")}; ${rates("PUT", "putsPerSecond")}.`,
      `P9, ${database}: the server started in ${many.startMilliseconds.toFixed(0)} ms with many and ` +
        `${few.startMilliseconds.toFixed(0)} ms with few, and had ${await memory(many)} and ${await memory(few)} in the end.`,
    ],
  };
}
