/** The server's side of a process: its log, its signals, its root token on a terminal; spec/http.md § Starting. */

import type { Writable } from "node:stream";

import { destination, pino, type Logger } from "pino";

import { describeError } from "../logger.js";
import { startServer, type RunningServer, type ServerOptions } from "../server.js";
import type { LogLevel } from "./options.js";

/** How long log lines may wait to be written together, in milliseconds. */
const LOG_FLUSH_MILLISECONDS = 100;
const LOG_BUFFER_BYTES = 4_096;
/** Most that waits for a reader of the log that is slow, or has stopped: beyond, lines are left out. */
const MAX_LOG_BYTES = 4_194_304;
/** What Linux writes to a pipe in one piece. */
const PIPE_BYTES = 4_096;
/** Terminals and npm deliver one Ctrl-C more than once: what comes this soon after the first is no second wish. */
const REPEAT_MILLISECONDS = 1_000;
const FORCED_EXIT = 130;

/** JSON lines to a file descriptor: 1 is stdout, 2 is stderr. With `base` they say which of the processes that share it wrote them. */
export function createLogger(level: LogLevel, fileDescriptor: 1 | 2, base: { pid: number } | null = null): Logger {
  // Whole lines, and no more of them than a pipe takes at once, or they would come between the lines of others.
  const buffer =
    base === null ? { minLength: LOG_BUFFER_BYTES } : { minLength: LOG_BUFFER_BYTES / 2, maxWrite: PIPE_BYTES };
  const file = destination({ dest: fileDescriptor, sync: false, maxLength: MAX_LOG_BYTES, ...buffer });
  let timer: NodeJS.Timeout | undefined;
  // Not the file's own periodic flush, which writes zero bytes ten times a second when nothing is logged.
  const flushLater = () => {
    timer = undefined;
    file.flush();
  };
  const stream = {
    write(line: string) {
      file.write(line);
      timer ??= setTimeout(flushLater, LOG_FLUSH_MILLISECONDS).unref();
    },
    flush: (done: () => void) => file.flush(done),
  };
  const logger = pino({ level, base }, stream);
  let missing = 0;
  file.on("drop", () => missing++);
  file.on("drain", () => {
    if (missing === 0) return;
    logger.warn({ lines: missing }, "log lines are missing here: they were written faster than they were read");
    missing = 0;
  });
  return logger;
}

/**
 * Runs a server until a signal stops it and its log is written; `whenListening` comes in between. What makes it fail is logged at level debug,
 * with its stack.
 *
 * @throws what startServer or `whenListening` throws; nothing is left open then.
 */
export async function runServer(
  options: ServerOptions,
  logger: Logger,
  whenListening: (server: RunningServer) => Promise<void> | void,
  start: (options: ServerOptions) => Promise<RunningServer> = startServer,
): Promise<void> {
  try {
    const server = await start({ ...options, logger });
    try {
      await whenListening(server);
    } catch (error) {
      await server.close();
      throw error;
    }
    await closeOnSignal(server, logger);
    logger.info({}, "stopped");
  } catch (error) {
    logger.debug({ error: describeError(error) }, "failed");
    throw error;
  } finally {
    await new Promise<void>((resolve) => logger.flush(() => resolve()));
  }
}

/** Shows the root token once. */
export function showRootToken(token: string, terminal: Writable): Promise<void> {
  return new Promise((resolve, reject) => {
    terminal.write(`Root token, shown this once. Keep it safe:\n\n  ${token}\n\n`, (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
}

/** Closes the server on the first SIGTERM or SIGINT; resolves when that is done. */
function closeOnSignal(server: RunningServer, logger: Logger): Promise<void> {
  return new Promise((resolve, reject) => {
    onStopSignals(logger, { stop: () => void server.close().then(resolve, reject) });
  });
}

/**
 * Calls `stop` on the first SIGTERM or SIGINT. A signal that comes more than a second later, while requests are still under way,
 * ends the process at once with 130, after `atOnce`. The handlers stay: without them a repeated signal would kill the process
 * in the middle of closing.
 */
export function onStopSignals(logger: Logger, { stop, atOnce }: { stop: () => void; atOnce?: () => void }): void {
  let begun: number | undefined;
  const onSignal = (signal: NodeJS.Signals) => {
    if (begun === undefined) {
      begun = performance.now();
      logger.info({ signal }, "stopping");
      stop();
    } else if (performance.now() - begun >= REPEAT_MILLISECONDS) {
      logger.warn({ signal }, "stopping at once");
      atOnce?.();
      process.exit(FORCED_EXIT);
    }
  };
  process.on("SIGTERM", onSignal).on("SIGINT", onSignal);
}
