/**
 * Reads a system-call trace of a server, and of PostgreSQL if it keeps its records there, and says of each acknowledged PUT
 * whether its bytes had reached the disk first: between the request's arrival and the answer's first byte the database's
 * write-ahead log was written, and then synced; and all that was synced so far has room for all the records acknowledged so far.
 * The last rule finds answers that profit from the sync of somebody else's write.
 */

/** What a tracer is told to record; `-y` names files, and 48 characters show a request line's and an answer's beginning. */
export const STRACE = [
  "strace",
  "-f",
  "-y",
  "-s",
  "48",
  // Signals sent to the tracer end it and are passed on, although it writes to a file.
  "-I",
  "2",
  "-e",
  "trace=read,readv,recvfrom,recvmsg,pwrite64,pwritev,write,writev,sendto,sendmsg,fsync,fdatasync",
  "-o",
] as const;

/** What a trace shows of the PUTs in it. */
export interface Durability {
  /** PUTs answered 200 or 201. */
  acknowledged: number;
  /** What is wrong, one line per answer that came too early. */
  early: string[];
}

const READS = new Set(["read", "readv", "recvfrom", "recvmsg"]);
const SENDS = new Set(["write", "writev", "sendto", "sendmsg"]);
const LOG_WRITES = new Set(["pwrite64", "pwritev", "write", "writev"]);
const SYNCS = new Set(["fsync", "fdatasync"]);

/** A database's write-ahead log. */
export interface Log {
  /** Whether this file is part of it. */
  holds(file: string): boolean;
  /** Then nothing at all in it may be unsynced when an answer is sent. */
  hasOneWriter: boolean;
}

export const SQLITE_LOG: Log = { holds: (file) => file.endsWith("-wal"), hasOneWriter: true };
/** Its segments, but not the one that is being prepared. */
export const POSTGRES_LOG: Log = { holds: (file) => /\/pg_wal\/[0-9A-F]{24}$/.test(file), hasOneWriter: false };

/** One line: a call that begins, that ends, or both. */
interface Event {
  thread: string;
  call: string;
  /** What the file descriptor names: a path, or `socket:[…]`. */
  file: string;
  text: string;
  begins: boolean;
  /** Whether it ended well. */
  succeeded: boolean;
}

/** How far a log has come. Positions are line numbers; 0 is before the trace. */
interface Progress {
  /** Where the last of the writes began. */
  position: number;
  /** Since the first PUT arrived. */
  bytes: number;
}

/** What was written to a log, and how much of that is on the disk. */
class LogState {
  /** The write that has begun last. */
  begun = 0;
  synced: Progress = { position: 0, bytes: 0 };
  #written: Progress = { position: 0, bytes: 0 };
  /** By thread: where its write began, and what its sync is of. */
  readonly #writes = new Map<string, number>();
  readonly #syncs = new Map<string, Progress>();

  startCounting(): void {
    this.#written = { ...this.#written, bytes: 0 };
    this.synced = { ...this.synced, bytes: 0 };
  }

  note({ thread, call, text, begins, succeeded }: Event, position: number): void {
    if (LOG_WRITES.has(call)) {
      if (begins) {
        this.begun = position;
        this.#writes.set(thread, position);
      }
      if (!succeeded) return;
      const began = Math.max(this.#written.position, this.#writes.get(thread) ?? 0);
      this.#written = { position: began, bytes: this.#written.bytes + resultOf(text) };
    } else if (SYNCS.has(call)) {
      if (begins) this.#syncs.set(thread, this.#written);
      const done = this.#syncs.get(thread);
      if (succeeded && done !== undefined && done.position >= this.synced.position) this.synced = done;
    }
  }
}

/**
 * Judges a trace in which every PUT carries a record of `recordBytes`.
 * @throws {Error} when the trace has no acknowledged PUT, for then it proves nothing.
 */
export function analyseTrace(text: string, recordBytes: number, log: Log = SQLITE_LOG): Durability {
  const state = new LogState();
  const arrivals = new Map<string, number>();
  const result: Durability = { acknowledged: 0, early: [] };
  let position = 0;
  for (const event of events(text)) {
    const { call, file, text: line, begins, succeeded } = event;
    position++;
    if (log.holds(file)) {
      state.note(event, position);
    } else if (READS.has(call) && succeeded && line.includes('"PUT /v1/')) {
      if (arrivals.size + result.acknowledged === 0) state.startCounting();
      arrivals.set(file, position);
    } else if (SENDS.has(call) && begins && /"HTTP\/1\.1 20[01] /.test(line)) {
      const arrived = arrivals.get(file);
      if (arrived === undefined) continue;
      arrivals.delete(file);
      result.acknowledged++;
      const fault = judge(state, log, arrived, result.acknowledged * recordBytes);
      if (fault !== null) result.early.push(`event ${position} on ${file}: ${fault}`);
    }
  }
  if (result.acknowledged > 0) return result;
  throw new Error("The trace shows no acknowledged PUT: the tracer's output is not understood.");
}

function judge({ begun, synced }: LogState, { hasOneWriter }: Log, arrived: number, promised: number): string | null {
  if (begun < arrived) return "answered before anything was written";
  if (synced.position < arrived) return "answered before any of that was synced";
  if (hasOneWriter && synced.position < begun) return "answered while the last write was not synced";
  if (synced.bytes < promised) return `${promised} bytes are acknowledged and ${synced.bytes} synced`;
  return null;
}

function* events(text: string): Generator<Event> {
  const unfinished = new Map<string, { call: string; file: string }>();
  for (const line of text.split("\n")) {
    const started = /^(\d+) +(\w+)\((?:\d+<([^>]*(?:->[^>]*)?)>)?/.exec(line);
    const resumed = /^(\d+) +<\.\.\. (\w+) resumed>/.exec(line);
    if (started !== null) {
      const [, thread = "", call = "", file = ""] = started;
      const finished = !line.endsWith("<unfinished ...>");
      if (!finished) unfinished.set(thread, { call, file });
      yield { thread, call, file, text: line, begins: true, succeeded: finished && !Number.isNaN(resultOf(line)) };
    } else if (resumed !== null) {
      const [, thread = "", name = ""] = resumed;
      const { call = name, file = "" } = unfinished.get(thread) ?? {};
      yield { thread, call, file, text: line, begins: false, succeeded: !Number.isNaN(resultOf(line)) };
    }
  }
}

/** What the call returned; NaN when it failed or has not ended. */
function resultOf(line: string): number {
  return Number(/\) += (\d+)$/.exec(line)?.[1]);
}
