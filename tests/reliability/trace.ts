/**
 * Reads a system-call trace of a server and says of each acknowledged PUT whether its bytes had reached the disk first:
 * SQLite's write-ahead log was written and synced between the request's arrival and the answer's first byte, nothing in
 * it was written after that sync, and all that was synced so far has room for all the records acknowledged so far. The
 * last rule finds answers that profit from the sync of somebody else's write.
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

/** One line: a call that begins, that ends, or both. */
interface Event {
  call: string;
  /** What the file descriptor names: a path, or `socket:[…]`. */
  file: string;
  text: string;
  begins: boolean;
  /** Whether it ended well. */
  succeeded: boolean;
}

/** Positions are line numbers; 0 is before the trace. */
interface LogState {
  written: number;
  synced: number;
  /** Bytes since the first PUT arrived. */
  writtenBytes: number;
  syncedBytes: number;
}

/**
 * Judges a trace in which every PUT carries a record of `recordBytes`.
 * @throws {Error} when the trace has no acknowledged PUT, for then it proves nothing.
 */
export function analyseTrace(text: string, recordBytes: number): Durability {
  const log: LogState = { written: 0, synced: 0, writtenBytes: 0, syncedBytes: 0 };
  const arrivals = new Map<string, number>();
  const result: Durability = { acknowledged: 0, early: [] };
  let position = 0;
  for (const { call, file, text: line, begins, succeeded } of events(text)) {
    position++;
    if (file.endsWith("-wal")) {
      if (LOG_WRITES.has(call) && begins) log.written = position;
      if (LOG_WRITES.has(call) && succeeded) log.writtenBytes += resultOf(line);
      if (SYNCS.has(call) && succeeded) {
        log.synced = position;
        log.syncedBytes = log.writtenBytes;
      }
    } else if (READS.has(call) && succeeded && line.includes('"PUT /v1/')) {
      if (arrivals.size + result.acknowledged === 0) log.writtenBytes = log.syncedBytes = 0;
      arrivals.set(file, position);
    } else if (SENDS.has(call) && begins && /"HTTP\/1\.1 20[01] /.test(line)) {
      const arrived = arrivals.get(file);
      if (arrived === undefined) continue;
      arrivals.delete(file);
      result.acknowledged++;
      const fault = judge(log, arrived, result.acknowledged * recordBytes);
      if (fault !== null) result.early.push(`event ${position} on ${file}: ${fault}`);
    }
  }
  if (result.acknowledged > 0) return result;
  throw new Error("The trace shows no acknowledged PUT: the tracer's output is not understood.");
}

function judge({ written, synced, syncedBytes }: LogState, arrived: number, promised: number): string | null {
  if (written < arrived) return "answered before anything was written";
  if (synced < arrived) return "answered before any sync";
  if (synced < written) return "answered while the last write was not synced";
  if (syncedBytes < promised) return `${promised} bytes are acknowledged and ${syncedBytes} synced`;
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
      yield { call, file, text: line, begins: true, succeeded: finished && !Number.isNaN(resultOf(line)) };
    } else if (resumed !== null) {
      const { call = resumed[2] ?? "", file = "" } = unfinished.get(resumed[1] ?? "") ?? {};
      yield { call, file, text: line, begins: false, succeeded: !Number.isNaN(resultOf(line)) };
    }
  }
}

/** What the call returned; NaN when it failed or has not ended. */
function resultOf(line: string): number {
  return Number(/\) += (\d+)$/.exec(line)?.[1]);
}
