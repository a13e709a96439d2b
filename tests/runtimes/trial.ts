/** One real server and one desk for all runtimes, and the judgement of each. */

import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { generateSecret } from "@tacenda/sdk";
import { type Grant, TacendaAdmin } from "@tacenda/sdk/admin";
import { startServer } from "@tacenda/server";

import { ROOT } from "../consumers/packed.ts";
import { closedUrl, openDesk } from "./desk.ts";
import type { Installed, Runtime, Site } from "./runtimes.ts";
import type { Outcome, Plan } from "./suite/plan.ts";
import { SHARED_STORE, changingStoreOf, openStoreOf, storeOf } from "./suite/stores.ts";
import type { VectorCase } from "./suite/vector-case.ts";
import type { Row } from "./table.ts";

const ROOT_TOKEN = "root-token-of-the-runtimes-0123456789";
/** The types of vectors that the SDK's public calls can be held to. */
const VECTOR_TYPES = ["record", "derive", "generated-secret"];
/** Milliseconds for one runtime's whole suite. */
const SUITE_LIMIT = 180_000;

type Permission = Grant["permissions"][number];

/** What the suite's samples.js exports. */
type Samples = typeof import("./suite/samples.ts");

export interface Trial extends AsyncDisposable {
  /** Installs the runtime if need be and runs the suite in it. Never rejects: what went wrong is a failure of the row. */
  run(name: string, runtime: Runtime): Promise<Row>;
}

/** Starts the server on `dataDir` and the desk. `project` has the packed packages and the bundled suite. */
export async function openTrial(dataDir: string, project: string): Promise<Trial> {
  const desk = await openDesk(join(project, "page.js"));
  const server = await startServer({ dataDir, port: 0, rootToken: ROOT_TOKEN, corsOrigin: desk.url });
  const { url } = server;
  const admin = new TacendaAdmin({ url, token: ROOT_TOKEN });
  await admin.stores.create(SHARED_STORE);
  const mint = async (permissions: Permission[]) =>
    (await admin.tokens.create("runtimes", [{ stores: ["*"], permissions }])).token;
  const common = {
    url,
    secret: generateSecret(),
    closedUrl: await closedUrl(),
    redirectingUrl: `${desk.url}/redirecting`,
    silentUrl: `${desk.url}/silent`,
    endlessUrl: `${desk.url}/endless`,
    vectors: await readVectors(),
  };
  // This process is a Node too, and uses the packed SDK for what all runtimes read and write.
  const samples = (await import(pathToFileURL(join(project, "samples.js")).href)) as Samples;
  const token = await mint(["read", "write", "delete"]);
  const shared = () => samples.sharedStore({ ...common, token });
  await samples.writeSamples(shared(), "node");

  async function judge(name: string, runtime: Runtime, installed: Installed): Promise<Outcome> {
    for (const id of [storeOf(name), changingStoreOf(name)]) await admin.stores.create(id);
    await admin.stores.create(openStoreOf(name), { secrets: "any" });
    // Tokens of its own: the server limits how often one token may come with a wrong secret.
    const plan: Plan = {
      ...common,
      runtime: name,
      token: await mint(["read", "write", "delete"]),
      readerToken: await mint(["read"]),
      hasEnvironment: runtime.hasEnvironment,
    };
    const environment = { TACENDA_URL: url, TACENDA_TOKEN: plan.token, TACENDA_SECRET: plan.secret };
    const reported = desk.expect(plan);
    const outcome = await runSuite(installed, { project, deskUrl: desk.url, environment }, reported);
    return await counting(outcome, "Node reads what it wrote", () => samples.readSamples(shared(), name));
  }

  return {
    async run(name, runtime) {
      let version = "–";
      let start = performance.now();
      let outcome: Outcome;
      try {
        const installed = await runtime.prepare();
        version = installed.version;
        start = performance.now();
        outcome = await judge(name, runtime, installed);
      } catch (error) {
        outcome = { passed: 0, failures: [{ name: "the suite as a whole", message: messageOf(error) }] };
      }
      return { runtime: name, version, ...outcome, seconds: (performance.now() - start) / 1000 };
    },
    async [Symbol.asyncDispose]() {
      await server.close();
      await desk.close();
    },
  };
}

/** Starts the runtime, and gives what it reports. @throws {Error} when it ends without a report, or is too late. */
async function runSuite(installed: Installed, site: Site, reported: Promise<Outcome>): Promise<Outcome> {
  const launched = await installed.start(site);
  const late = AbortSignal.timeout(SUITE_LIMIT);
  try {
    const outcome = await Promise.race([reported, launched.gone(), rejectionOf(late)]);
    return await counting(outcome, "the process ends when its work is done", () => launched.finish());
  } finally {
    await launched.kill();
  }
}

/** The outcome with one more case. */
async function counting(outcome: Outcome, name: string, run: () => Promise<void>): Promise<Outcome> {
  try {
    await run();
    return { ...outcome, passed: outcome.passed + 1 };
  } catch (error) {
    return { ...outcome, failures: [...outcome.failures, { name, message: messageOf(error) }] };
  }
}

async function readVectors(): Promise<VectorCase[]> {
  const vectors: VectorCase[] = [];
  for (const type of VECTOR_TYPES) {
    const folder = join(ROOT, "spec/vectors", type);
    for (const file of await readdir(folder)) {
      vectors.push(JSON.parse(await readFile(join(folder, file), "utf8")) as VectorCase);
    }
  }
  return vectors;
}

function rejectionOf(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(new Error("The suite took too long.")), { once: true });
  });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
