/** What a server has of memory and other things, looked at again and again, and whether it grows. */

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

import type { ServerProcess } from "../server-process.ts";
import { sharedCluster, type Place } from "./databases.ts";
import { openFiles } from "./process-figures.ts";

const PROBE = pathToFileURL(join(import.meta.dirname, "memory-probe.mjs")).href;
/** Milliseconds within which the probe answers. */
const PROBE_LIMIT = 30_000;

export interface Figures {
  /** Milliseconds of the process's clock. */
  at: number;
  /** Bytes that JavaScript and native code use after all garbage was collected. */
  used: number;
  /** Bytes of the whole process. */
  rss: number;
  files: number;
  /** Bytes of SQLite's log; 0 on PostgreSQL. */
  wal: number;
  /** Connections to PostgreSQL; 0 on SQLite. */
  connections: number;
}

export class Probe {
  readonly #file: string;
  readonly #place: Place;

  constructor(folder: string, place: Place) {
    this.#file = join(folder, "memory.jsonl");
    this.#place = place;
  }

  /** Variables for the server that is to be looked at. */
  get env(): Record<string, string> {
    return { NODE_OPTIONS: `--import=${PROBE}`, TACENDA_TEST_MEMORY_FILE: this.#file };
  }

  /** @throws {Error} when the server does not answer. */
  async look({ pid }: ServerProcess): Promise<Figures> {
    const before = this.#lines().length;
    process.kill(pid, "SIGUSR2");
    const begun = performance.now();
    while (this.#lines().length === before) {
      if (performance.now() - begun > PROBE_LIMIT) throw new Error("The server does not say how much memory it has.");
      await sleep(20);
    }
    const { used, rss } = JSON.parse(this.#lines().at(-1) ?? "") as Pick<Figures, "used" | "rss">;
    const { dataDir, databaseUrl } = this.#place;
    return {
      at: performance.now(),
      used,
      rss,
      files: openFiles(pid),
      wal: databaseUrl === null ? statSync(join(dataDir, "tacenda.db-wal")).size : 0,
      connections: databaseUrl === null ? 0 : await connectionsTo(databaseUrl),
    };
  }

  #lines(): string[] {
    try {
      return readFileSync(this.#file, "utf8").split("\n").slice(0, -1);
    } catch {
      return [];
    }
  }
}

async function connectionsTo(databaseUrl: string): Promise<number> {
  const name = new URL(databaseUrl).pathname.slice(1);
  const count = `select count(*)::int as count from pg_stat_activity where datname = '${name}'`;
  const [row] = await (await sharedCluster()).query<{ count: number }>(count);
  return row?.count ?? 0;
}

/** By how much a figure grew from the first look to the last, by the straight line that fits best (least squares). */
export function growth(figures: readonly Figures[], name: "used" | "rss" | "files" | "wal" | "connections"): number {
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const middle = mean(figures.map(({ at }) => at));
  const level = mean(figures.map((one) => one[name]));
  const along = figures.reduce((sum, { at }) => sum + (at - middle) ** 2, 0);
  const slope = figures.reduce((sum, one) => sum + (one.at - middle) * (one[name] - level), 0) / along;
  return slope * ((figures.at(-1)?.at ?? 0) - (figures[0]?.at ?? 0));
}
