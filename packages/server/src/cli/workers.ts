/**
 * Several processes that serve one port together: starts them, puts others in the place of those that end, and stops them all. The
 * port is this process's, which accepts connections and hands them out in turn (node:cluster); it has no other part in the work.
 */

import cluster, { type Worker } from "node:cluster";
import { setTimeout as sleep } from "node:timers/promises";

import { describeError } from "../logger.js";
import { createMetricsServer } from "../metrics.js";
import { LOOPBACK, closeListener, listen, portOf } from "../server.js";
import { InvalidOptionError, StartupError } from "../startup-error.js";
import type { ServeFlags } from "./options.js";
import { createLogger, onStopSignals } from "./process.js";
import { WorkerMetrics } from "./worker-metrics.js";
import { WORKER_PORT, type FromWorker } from "./worker.js";

/** Pauses before another process takes the place of one that ended, in milliseconds: doubled each time, up to the longest. */
const FIRST_PAUSE = 200;
const LONGEST_PAUSE = 30_000;
/** What has served for as long ends for a new reason. In milliseconds. */
const STEADY_MILLISECONDS = 60_000;
/** How often in a row a place is filled in vain, while no other process serves, before all is given up. */
const MAX_FAILURES = 5;
/** Exit code for bad flags or values, which a worker finds out about as the whole would. */
const USAGE_EXIT = 2;

type Logger = ReturnType<typeof createLogger>;

export interface WorkersFlags extends ServeFlags {
  workers: number;
}

/**
 * Runs them until a signal stops them.
 * @throws {StartupError | InvalidOptionError} when they do not start, or cannot be kept; none is left then.
 */
export async function runWorkers(flags: WorkersFlags): Promise<void> {
  if (!cluster.isPrimary)
    throw new InvalidOptionError("--workers does not go with another program's cluster of processes.");
  const logger = createLogger(flags.logLevel, 1, { pid: process.pid });
  const workers = new Workers(flags.port, logger);
  const metricsServer = createMetricsServer({ render: () => workers.renderMetrics() });
  try {
    if (flags.metricsPort !== undefined) await listen(metricsServer, LOOPBACK, flags.metricsPort, "--metrics-port");
    onStopSignals(logger, { stop: () => workers.stop(), atOnce: () => workers.kill() });
    const url = await workers.start(flags.workers);
    if (url !== null) {
      const metricsUrl = metricsServer.listening ? `http://${LOOPBACK}:${portOf(metricsServer)}/metrics` : null;
      logger.info({ url, metricsUrl, workers: flags.workers }, "listening");
    }
    await workers.keep();
    logger.info({}, "stopped");
  } catch (error) {
    logger.debug({ error: describeError(error) }, "failed");
    throw error;
  } finally {
    await closeListener(metricsServer);
    await new Promise<void>((resolve) => logger.flush(() => resolve()));
  }
}

/** How a process ended. */
interface End {
  pid: number | undefined;
  code: number | null;
  signal: NodeJS.Signals | null;
  /** Milliseconds since it began to listen; null when it never did. */
  served: number | null;
}

interface Run {
  /** Whether it came to listen, before it ended. */
  listening: Promise<boolean>;
  ended: Promise<End>;
}

class Workers {
  readonly #logger: Logger;
  readonly #metrics = new WorkerMetrics(() => this.#serving.size);
  readonly #stopping = new AbortController();
  readonly #running = new Map<number, Worker>();
  readonly #serving = new Map<number, Worker>();
  /** One for each process there is to be. */
  #places: Run[] = [];
  #port: number;
  #url: string | null = null;
  #actualPort: number | null = null;

  constructor(port: number, logger: Logger) {
    this.#port = port;
    this.#logger = logger;
  }

  /**
   * Starts the first one, which makes what the database lacks or says what is wrong, and then the others. Gives their URL, or
   * null when they were stopped meanwhile.
   */
  async start(count: number): Promise<string | null> {
    for (const size of [1, count - 1]) {
      if (this.#isStopping()) return null;
      const runs = Array.from({ length: size }, () => this.#fork());
      this.#places.push(...runs);
      const failed = (await Promise.all(runs.map(async (run) => ((await run.listening) ? [] : [run])))).flat()[0];
      if (failed === undefined || this.#isStopping()) continue;
      this.stop();
      const [end] = await Promise.all([failed.ended, ...this.#places.map(({ ended }) => ended)]);
      throw endedEarly(end);
    }
    return this.#url;
  }

  /** Fills the places of those that end; resolves when all have been stopped. @throws {StartupError} when it gives up. */
  async keep(): Promise<void> {
    try {
      await Promise.all(this.#places.map((run) => this.#keepPlace(run)));
    } finally {
      this.stop();
      await Promise.all(this.#places.map(({ ended }) => ended));
    }
  }

  /** Has all of them end in order. */
  stop(): void {
    this.#stopping.abort();
    for (const { process: child } of this.#running.values()) child.kill("SIGTERM");
  }

  /** Ends all of them at once. */
  kill(): void {
    for (const { process: child } of this.#running.values()) child.kill("SIGKILL");
  }

  async renderMetrics(): Promise<string> {
    return await this.#metrics.render([...this.#serving.keys()], (id) => {
      // One that has just ended does not answer.
      this.#serving.get(id)?.send("metrics", () => undefined);
    });
  }

  #isStopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  async #keepPlace(first: Run): Promise<void> {
    let run = first;
    for (let failures = 1; ; failures++) {
      const { pid, code, signal, served } = await run.ended;
      if (this.#isStopping()) return;
      if (served !== null && served >= STEADY_MILLISECONDS) failures = 1;
      if (served === null && failures >= MAX_FAILURES && this.#serving.size === 0) {
        throw new StartupError(
          "No worker serves, and those that were to take their places end before they listen; what they say is above.",
        );
      }
      const pause = Math.min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE);
      this.#logger.error({ worker: pid, code, signal, pause }, "a worker has ended: another one takes its place");
      await sleep(pause, undefined, this.#stopping).catch(() => undefined);
      if (this.#isStopping()) return;
      const place = this.#places.indexOf(run);
      run = this.#fork();
      this.#places[place] = run;
    }
  }

  #fork(): Run {
    // Who listens on port 0 shares the port that the others got there. When none is left they have to name it.
    if (this.#running.size === 0 && this.#actualPort !== null) this.#port = this.#actualPort;
    const worker = cluster.fork({ [WORKER_PORT]: String(this.#port) });
    const { id } = worker;
    let since: number | null = null;
    this.#running.set(id, worker);
    this.#metrics.noteStart();
    const ended = new Promise<End>((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null) => {
        this.#running.delete(id);
        this.#serving.delete(id);
        this.#metrics.noteEnd(id);
        const served = since === null ? null : performance.now() - since;
        resolve({ pid: worker.process.pid, code, signal, served });
      };
      worker.once("exit", (code: number | null, signal: NodeJS.Signals | null) => end(code, signal));
      // It could not be started, or be sent to; in the second case it ends by itself.
      worker.on("error", () => {
        if (worker.process.pid === undefined) end(null, null);
      });
    });
    const listening = new Promise<boolean>((resolve) => {
      void ended.then(() => resolve(false));
      worker.on("message", (message: FromWorker) => {
        if (message.tacenda === "metrics") {
          this.#metrics.note(id, message.metrics);
          return;
        }
        since = performance.now();
        this.#serving.set(id, worker);
        this.#url ??= message.url;
        this.#actualPort = message.port;
        resolve(true);
      });
    });
    return { listening, ended };
  }
}

function endedEarly({ code, signal }: End): Error {
  const how = signal ?? `code ${code ?? "unknown"}`;
  const message = `A worker ended before it listened (${how}), so all were stopped. What it said is above.`;
  return code === USAGE_EXIT ? new InvalidOptionError(message) : new StartupError(message);
}
