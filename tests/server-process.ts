/** The built `tacenda-server` as a process of its own, for tests that read its output, trace it or kill it. */

import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { onTestFinished } from "vitest";

import { startCluster } from "./postgres.ts";

/** The command as it is published. */
export const SERVER_BIN = join(import.meta.dirname, "../packages/server/bin/tacenda-server.js");

/** Milliseconds a server may take to listen, tracing and a busy machine included. */
const START_LIMIT = 30_000;

export interface ProcessOptions {
  dataDir: string;
  /** Another build than the repository's. */
  bin?: string;
  flags?: readonly string[];
  rootToken?: string;
  /** Variables besides; nothing else of this process's own environment is passed on but PATH. */
  env?: Readonly<Record<string, string>>;
  /** A command and its flags that run the server under them, for instance a tracer. */
  wrapper?: readonly string[];
}

export interface ServerProcess {
  pid: number;
  url: string;
  metricsUrl: string | null;
  /** Everything written to stdout and stderr so far. */
  output(): string;
  /** Sends the signal and resolves when the process, and whatever wraps it, is gone and all output was read. */
  end(signal: "SIGTERM" | "SIGKILL"): Promise<void>;
  /** Resolves when the process has ended by itself, with the signal that did it or null. */
  ended: Promise<NodeJS.Signals | null>;
  /** Null until it has ended, and when a signal did it. */
  exitCode(): number | null;
}

/** A fresh folder, removed when the test ends. */
export async function freshFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "tacenda-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/**
 * Starts a server on a free port and resolves when it listens. It is killed when the test ends.
 * @throws {Error} with the process's output, when it ends instead.
 */
export async function spawnServer(options: ProcessOptions): Promise<ServerProcess> {
  const { dataDir, bin = SERVER_BIN, flags = [], rootToken, env, wrapper = [] } = options;
  const databaseUrl = await databaseOf(dataDir);
  const command = [...wrapper, process.execPath, bin, "--port", "0", "--data-dir", dataDir, ...flags];
  const child = spawn(command[0] ?? "", command.slice(1), {
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: process.env.PATH,
      ...env,
      ...(rootToken !== undefined && { TACENDA_ROOT_TOKEN: rootToken }),
      ...(databaseUrl !== undefined && { TACENDA_DATABASE_URL: databaseUrl }),
    },
  });
  // "close" comes after "exit", when nobody holds the pipes any more: not even a server that outlived its tracer.
  const closed = once(child, "close");
  onTestFinished(async () => {
    child.kill("SIGKILL");
    await closed;
  });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => (text += part));
  child.stderr.setEncoding("utf8").on("data", (part: string) => (text += part));
  const listening = await listeningLine(child, () => text, closed);
  return {
    pid: child.pid ?? 0,
    ...listening,
    output: () => text,
    async end(signal) {
      child.kill(signal);
      await closed;
    },
    ended: closed.then(() => child.signalCode),
    exitCode: () => child.exitCode,
  };
}

/** Databases on PostgreSQL in the place of those in data directories, where TACENDA_TEST_DATABASE_URL says so. */
const databases = new Map<string, string>();

async function databaseOf(dataDir: string): Promise<string | undefined> {
  if (!process.env.TACENDA_TEST_DATABASE_URL || databases.has(dataDir)) return databases.get(dataDir);
  const cluster = await startCluster();
  const url = await cluster.createDatabase();
  databases.set(dataDir, url);
  onTestFinished(() => cluster.dropDatabase(url));
  return url;
}

export interface CommandResult {
  /** Null when a signal ended it. */
  code: number | null;
  /** Everything it wrote to stdout and stderr. */
  output: string;
}

/**
 * Runs a command of the program to its end, for instance `["verify", "--data-dir", DIR]`. It is killed when `until`
 * resolves, or the test ends.
 */
export async function runCommand(
  args: readonly string[],
  {
    bin = SERVER_BIN,
    env,
    until,
  }: {
    bin?: string;
    env?: Readonly<Record<string, string>>;
    until?: (running: () => boolean) => Promise<void>;
  } = {},
): Promise<CommandResult> {
  const child = spawn(process.execPath, [bin, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env.PATH, ...env },
  });
  const closed = once(child, "close");
  onTestFinished(() => void child.kill("SIGKILL"));
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => (output += part));
  child.stderr.setEncoding("utf8").on("data", (part: string) => (output += part));
  await until?.(() => child.exitCode === null && child.signalCode === null);
  if (until !== undefined) child.kill("SIGKILL");
  const [code] = (await closed) as [number | null];
  return { code, output };
}

async function listeningLine(
  child: ChildProcess,
  output: () => string,
  closed: Promise<unknown>,
): Promise<Pick<ServerProcess, "url" | "metricsUrl">> {
  const deadline = AbortSignal.timeout(START_LIMIT);
  for (;;) {
    const line = /^\{.*"msg":"listening"\}$/m.exec(output())?.[0];
    if (line !== undefined) return JSON.parse(line) as Pick<ServerProcess, "url" | "metricsUrl">;
    if (child.exitCode !== null || child.signalCode !== null) {
      await closed;
      const how = child.signalCode ?? `code ${child.exitCode}`;
      throw new Error(`The server ended instead of listening, by ${how}: ${output()}`);
    }
    deadline.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
