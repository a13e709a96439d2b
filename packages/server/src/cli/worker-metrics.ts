/** The metrics of several processes as those of one server; spec/http.md § Metrics. */

import { EventEmitter, once } from "node:events";

import { AggregatorRegistry, Counter, Gauge, Registry } from "prom-client";

/** How long a worker may take to tell its metrics, in milliseconds. */
const ANSWER_MILLISECONDS = 2_000;

/** What prom-client makes of a registry. */
export type Snapshot = readonly object[];

/**
 * Sums what the workers tell, or does whatever else a metric wants done with several values. Not by prom-client's own
 * `clusterMetrics`, which tells nothing when one worker does not answer, and whose sums fall when one ends: to Prometheus that
 * is a restart of the whole server, and its rates would leap.
 */
export class WorkerMetrics {
  readonly #own = new Registry();
  readonly #started: Counter;
  /** What each worker told last. */
  readonly #told = new Map<number, Snapshot>();
  readonly #answers = new EventEmitter();
  /** The counters and histograms of workers that have ended, as they told them last. */
  #past: Snapshot = [];

  /** `serving`: how many workers listen now. */
  constructor(serving: () => number) {
    new Gauge({
      name: "tacenda_workers",
      help: "Processes that serve now",
      registers: [this.#own],
      collect() {
        this.set(serving());
      },
    });
    this.#started = new Counter({
      name: "tacenda_workers_started_total",
      help: "Processes that were started to serve, in the place of others too",
      registers: [this.#own],
    });
  }

  /** A worker was started. */
  noteStart(): void {
    this.#started.inc();
  }

  /** A worker has told its metrics. */
  note(worker: number, snapshot: Snapshot): void {
    this.#told.set(worker, snapshot);
    this.#answers.emit(String(worker));
  }

  /** A worker has ended. */
  noteEnd(worker: number): void {
    const last = (this.#told.get(worker) ?? []).filter(isCumulative);
    this.#told.delete(worker);
    this.#past = merge([this.#past, last]).getMetricsAsArray();
    this.#answers.emit(String(worker));
  }

  /** The text that Prometheus scrapes. `ask` has a worker tell its metrics; of one that does not in time the last ones count. */
  async render(workers: readonly number[], ask: (worker: number) => void): Promise<string> {
    await Promise.all(
      workers.map(async (worker) => {
        const signal = AbortSignal.timeout(ANSWER_MILLISECONDS);
        const answer = once(this.#answers, String(worker), { signal }).catch(() => undefined);
        ask(worker);
        await answer;
      }),
    );
    const own = await this.#own.getMetricsAsJSON();
    return await merge([own, this.#past, ...this.#told.values()]).metrics();
  }
}

function merge(snapshots: readonly Snapshot[]): Registry {
  return AggregatorRegistry.aggregate(snapshots.map((snapshot) => [...snapshot]));
}

function isCumulative(metric: object): boolean {
  return "type" in metric && (metric.type === "counter" || metric.type === "histogram");
}
