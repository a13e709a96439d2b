/** The runtimes in which the SDK's suite runs: where each comes from, and how it is started. */

import { writeFile } from "node:fs/promises";
import { join } from "node:path";

import { type Launched, launch } from "./launch.ts";
import { installChromium, installFromNpm, versionOf } from "./install.ts";

/** Where the packed packages are installed, with the suite beside them as process.js, page.js and worker.js. */
export interface Site {
  project: string;
  deskUrl: string;
  /** What processes that have an environment get on top of PATH. */
  environment: Record<string, string>;
}

export interface Runtime {
  hasEnvironment: boolean;
  /** Installs it if need be. */
  prepare(): Promise<Installed>;
}

export interface Installed {
  version: string;
  start(site: Site): Promise<Launched>;
}

/** Node's packages of prebuilt programs name Windows otherwise than Node does. */
const NODE_PACKAGE = `node-${process.platform === "win32" ? "win" : process.platform}-${process.arch}`;

export const RUNTIMES: Record<string, Runtime> = {
  node22: { hasEnvironment: true, prepare: () => node("22.23.3") },
  node24: { hasEnvironment: true, prepare: () => node("24.21.0") },
  node26: { hasEnvironment: true, prepare: () => node("26.10.0") },
  bun: { hasEnvironment: true, prepare: bun },
  deno: { hasEnvironment: true, prepare: deno },
  workerd: { hasEnvironment: false, prepare: workerd },
  chromium: { hasEnvironment: false, prepare: chromium },
};

async function node(version: string): Promise<Installed> {
  const program = join(await installFromNpm(NODE_PACKAGE, version), "bin/node");
  return await processRuntime([program], () => []);
}

async function bun(): Promise<Installed> {
  const folder = await installFromNpm("bun", "1.4.5", "install.js");
  return await processRuntime([join(folder, "bin/bun.exe")], () => []);
}

/** Deno gets no more permissions than the SDK says it needs: the network, and its own variables. */
async function deno(): Promise<Installed> {
  const program = [process.execPath, join(await installFromNpm("deno", "2.9.6"), "bin.cjs")];
  return await processRuntime(program, ({ project }) => [
    "run",
    "--no-prompt",
    "--node-modules-dir=manual",
    "--allow-net=127.0.0.1",
    "--allow-env=TACENDA_URL,TACENDA_TOKEN,TACENDA_PROJECT,TACENDA_SECRET",
    `--allow-read=${project}`,
  ]);
}

/** A runtime that runs a file, ends by itself, and resolves @tacenda/sdk as it does in any project. */
async function processRuntime(program: readonly string[], flags: (site: Site) => string[]): Promise<Installed> {
  return {
    version: await versionOf(program),
    start: (site) => {
      const command = [...program, ...flags(site), join(site.project, "process.js"), site.deskUrl];
      return Promise.resolve(
        launch(command, { folder: site.project, environment: site.environment, endsByItself: true }),
      );
    },
  };
}

const WORKERD_CONFIG = `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "suite", worker = (
      modules = [(name = "worker.js", esModule = embed "worker.js")],
      compatibilityDate = "2026-11-01",
    )),
    (name = "internet", network = (allow = ["public", "private", "local"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "suite")],
);
`;

/** workerd listens; a request to it starts the suite. Its Worker has no compatibility flags, so nothing of Node. */
async function workerd(): Promise<Installed> {
  const folder = await installFromNpm("workerd", "1.20261117.1");
  const program = join(folder, "bin/workerd");
  return {
    version: await versionOf([process.execPath, program]),
    async start({ project, deskUrl }) {
      await writeFile(join(project, "workerd.capnp"), WORKERD_CONFIG);
      const command = [process.execPath, program, "serve", "--control-fd=1", join(project, "workerd.capnp")];
      const launched = launch(command, { folder: project, environment: {}, endsByItself: false });
      const port = await launched.outputMatching(/"event":"listen","socket":"http","port":(\d+)/);
      const answer = fetch(`http://127.0.0.1:${port}/`, { method: "POST", body: deskUrl });
      answer.then((response) => response.text()).catch(() => undefined);
      return launched;
    },
  };
}

async function chromium(): Promise<Installed> {
  const program = await installChromium();
  return {
    version: await versionOf([program, "--no-sandbox"]),
    start: ({ project, deskUrl }) => {
      const profile = join(project, "profile");
      // Chromium's sandbox does not work for root, and the page is our own.
      const flags = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--disable-gpu"];
      const command = [program, ...flags, `--user-data-dir=${profile}`, deskUrl];
      return Promise.resolve(launch(command, { folder: project, environment: { HOME: profile }, endsByItself: false }));
    },
  };
}
