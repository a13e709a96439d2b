/** The projects whose bytes are bounded, known in memory, and counted in the background; spec/http.md § Quotas. */

import { setTimeout as sleep } from "node:timers/promises";

import { Lease } from "../lease.js";
import { describeError, type Logger } from "../logger.js";
import type { MaintenanceStore } from "../storage/maintenance.js";
import type { BoundedProject, CountCursor, QuotaStore } from "../storage/quota-store.js";
import { ByteQuota } from "./byte-quota.js";

/** Of several servers on one database, one counts. */
const LEASE = "quotas";
/** Rows per step: requests have their turn between the steps. */
const STEP_ROWS = 256;
/** How much longer than a step the rest after it is. So a count takes at most a tenth of a core, or of a connection. */
const REST = 9;
const MAX_REST_MILLISECONDS = 1_000;
/** How many times as long as a count took the next one is away at least. */
const PAUSE = 3;

export interface ByteQuotasOptions {
  quotas: QuotaStore;
  maintenance: Pick<MaintenanceStore, "acquireLease" | "renewLease" | "releaseLease">;
  logger: Logger;
  /** Milliseconds since the epoch. */
  now: () => number;
  /** How often to look which projects are bounded, and whether one is to be counted, in milliseconds. */
  interval: number;
  /** How often to count, in milliseconds. */
  countInterval: number;
}

export class ByteQuotas {
  readonly #options: ByteQuotasOptions;
  readonly #lease: Lease;
  readonly #stop = new AbortController();
  readonly #known = new Map<string, ByteQuota>();
  #work: Promise<void> | null = null;
  #timer: NodeJS.Timeout | undefined;
  /** Questions to the database, and the latest whose answer is in force: answers may overtake each other. */
  #asked = 0;
  #answered = 0;

  constructor(options: ByteQuotasOptions) {
    this.#options = options;
    this.#lease = new Lease(options.maintenance, LEASE);
  }

  /** The bound of a project; undefined without one, which costs a look into a table in memory. */
  of(project: string): ByteQuota | undefined {
    return this.#known.get(project);
  }

  /** Begins to know the bounds, and to count; rejects when the database fails. */
  async start(): Promise<void> {
    await this.#learn();
    this.#timer = setInterval(() => this.#wake(), this.#options.interval).unref();
    this.#wake();
  }

  /** Learns of a bound that this server has just set. Others learn of it at their next look, and so does this one if it fails. */
  async refresh(): Promise<void> {
    await this.#learn().catch((error: unknown) => this.#report(error));
    this.#wake();
  }

  /** Stops after the step under way. */
  async stop(): Promise<void> {
    this.#stop.abort();
    clearInterval(this.#timer);
    await this.#work;
  }

  #wake(): void {
    if (this.#stop.signal.aborted) return;
    this.#work ??= this.#look().finally(() => (this.#work = null));
  }

  async #look(): Promise<void> {
    try {
      const due = (await this.#learn()).filter(({ count }) => count === null || count.dueAt <= this.#options.now());
      if (due.length > 0) await this.#countAll(due);
    } catch (error) {
      this.#report(error);
    }
  }

  #report(error: unknown): void {
    this.#options.logger.error({ error: describeError(error) }, "the bytes of projects could not be counted");
  }

  async #learn(): Promise<BoundedProject[]> {
    const question = ++this.#asked;
    const bounded = await this.#options.quotas.boundedProjects();
    if (question < this.#answered) return bounded;
    this.#answered = question;
    const names = new Set(bounded.map(({ project }) => project));
    for (const project of this.#known.keys()) if (!names.has(project)) this.#known.delete(project);
    for (const { project, maxBytes, count } of bounded) {
      const quota = this.#known.get(project);
      if (quota === undefined) this.#known.set(project, new ByteQuota(maxBytes, count));
      else quota.update(maxBytes, count);
    }
    return bounded;
  }

  async #countAll(due: readonly BoundedProject[]): Promise<void> {
    if (!(await this.#lease.take())) return;
    try {
      for (const { project } of due) if (!(await this.#count(project))) break;
    } finally {
      await this.#lease.release();
    }
    await this.#learn();
  }

  /** False when it was not brought to its end. */
  async #count(project: string): Promise<boolean> {
    const { quotas, now, countInterval } = this.#options;
    const begun = performance.now();
    const at = now();
    let bytes = 0;
    let cursor: CountCursor = null;
    do {
      if (this.#stop.signal.aborted || !(await this.#lease.holds())) return false;
      const stepped = performance.now();
      const step = await quotas.countBytes(project, at, cursor, STEP_ROWS);
      bytes += step.bytes;
      cursor = step.next;
      await this.#rest(Math.min(MAX_REST_MILLISECONDS, REST * (performance.now() - stepped)));
    } while (cursor !== null);
    const pause = Math.max(countInterval, Math.ceil(PAUSE * (performance.now() - begun)));
    await quotas.keepCount(project, { bytes, at, dueAt: now() + pause });
    return true;
  }

  async #rest(milliseconds: number): Promise<void> {
    await sleep(milliseconds, undefined, { signal: this.#stop.signal, ref: false }).catch(() => undefined);
  }
}
