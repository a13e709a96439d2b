/**
 * Keeps SQLite's write-ahead log from staying as large as a long reader (a backup, for instance) has let it grow. While somebody
 * reads an old state, what is written since has to stay in the log; afterwards the next commit would carry all of it over to the
 * database, and every request would wait for as long. So of a large log a thread of its own does that; docs/running.md § Disk. A
 * small log commits carry over themselves: with a thread that always did, when it was tried, writes were half as many.
 *
 * Killed at any moment this loses nothing: it only copies what is committed and synced in the log, and the log is begun anew
 * only when the copy is synced. Until then the log counts, and the next start copies again.
 */

import { once } from "node:events";
import { statSync } from "node:fs";
import { extname } from "node:path";
import { Worker } from "node:worker_threads";

import type BetterSqlite3 from "better-sqlite3";

import type { Checkpoint, Mode } from "./sqlite-checkpoint.js";
import { MAX_LOG_BYTES } from "./sqlite-connection.js";

/** The ending is that of this file: nothing may have been built. */
const THREAD = new URL(`./sqlite-checkpoint${extname(import.meta.url)}`, import.meta.url);
/** How often to look at the log, in milliseconds. */
const LOOK_INTERVAL = 1_000;
/** After how many pages a commit carries the log over itself; SQLite's default. */
const PAGES = 1_000;
/** How often the thread goes over what was written while it was at it. Writes wait for what is left then. */
const PASSES = 10;
/** Milliseconds until another try, after a thread that could not run. */
const THREAD_PAUSE = 60_000;

export class SqliteLog {
  readonly #writer: BetterSqlite3.Database;
  #timer: NodeJS.Timeout | undefined;
  /** There while the log is large; commits leave it alone then. */
  #thread: CheckpointThread | null = null;
  /** No thread is started earlier, by performance.now(). */
  #notBefore = 0;
  #looking: Promise<void> | null = null;

  /** `writer` is the one connection of this process that writes to the file. */
  constructor(writer: BetterSqlite3.Database) {
    this.#writer = writer;
  }

  /** Bytes of the log. */
  get size(): number {
    return statSync(`${this.#writer.name}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  }

  /** Begins to look after it, at once: the process before may have been killed over a large one. */
  watch(): void {
    const look = () => void (this.#looking ??= this.#look().finally(() => (this.#looking = null)));
    this.#timer = setInterval(look, LOOK_INTERVAL).unref();
    look();
  }

  /**
   * Empties the log, unless somebody still reads from it, or it is so large that the thread has to, which empties it in the end.
   * It waits for nobody, and not a moment for readers either.
   */
  truncate(): void {
    if (this.#thread === null && this.size <= MAX_LOG_BYTES) this.#writer.pragma("wal_checkpoint(truncate)");
  }

  /** Resolves when the thread is gone. Comes before the writer is closed, which then is the last to be, and leaves no log behind. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#thread?.end();
    await this.#looking;
  }

  async #look(): Promise<void> {
    if (performance.now() < this.#notBefore) return;
    try {
      if (this.#thread === null && this.size <= MAX_LOG_BYTES) return;
      this.#thread ??= this.#leaveToThread();
      if (await this.#empty(this.#thread)) await this.#takeBack(this.#thread);
    } catch {
      // No thread runs now, or nobody can tell how large the log is. Commits carry it over again, however long that takes.
      this.#notBefore = performance.now() + THREAD_PAUSE;
      if (this.#thread) await this.#takeBack(this.#thread);
    }
  }

  /** Whether the log is empty now. If not, somebody reads from it or keeps it busy, or there is no room in the database. */
  async #empty(thread: CheckpointThread): Promise<boolean> {
    for (let pass = 1, done = 0; pass <= PASSES; pass++) {
      const reached = await thread.checkpoint("passive");
      if (reached === null || reached.log < 0 || reached.checkpointed < reached.log) return false;
      const isLittleLeft = reached.log - done <= PAGES;
      done = reached.log;
      // By the thread as well: its syncs may take long, and whoever writes meanwhile comes again, which holds up no reader.
      if (isLittleLeft || pass === PASSES) {
        const emptied = await thread.checkpoint("truncate");
        if (emptied?.busy === 0) return true;
      }
    }
    return false;
  }

  #leaveToThread(): CheckpointThread {
    const thread = new CheckpointThread(this.#writer.name);
    this.#writer.pragma("wal_autocheckpoint = 0");
    return thread;
  }

  async #takeBack(thread: CheckpointThread): Promise<void> {
    this.#writer.pragma(`wal_autocheckpoint = ${PAGES}`);
    await thread.end();
    this.#thread = null;
  }
}

class CheckpointThread {
  readonly #worker: Worker;
  readonly #gone = new AbortController();

  /** `file`: the database's. */
  constructor(file: string) {
    this.#worker = new Worker(THREAD, { workerData: file, name: "checkpoint" });
    this.#worker.unref();
    // Whoever asks it hears of the error. Without a listener it would end the process.
    this.#worker.on("error", () => undefined).once("exit", () => this.#gone.abort());
  }

  /** Carries over what it can; null when it failed. @throws {Error} when the thread does not run */
  async checkpoint(mode: Mode): Promise<Checkpoint | null> {
    const answer = once(this.#worker, "message", { signal: this.#gone.signal });
    this.#worker.postMessage(mode);
    return ((await answer) as [Checkpoint | null])[0];
  }

  /** Resolves when it has ended, which a checkpoint under way does first. */
  async end(): Promise<void> {
    await this.#worker.terminate();
  }
}
