/** The server's side of a process: its log, its signals, its root token on a terminal. */

import type { Writable } from "node:stream";

import { destination, pino, type Logger } from "pino";

import type { RunningServer } from "../server.js";
import type { LogLevel } from "./options.js";

/** How long log lines may wait to be written together, in milliseconds. They are written out when the process ends. */
const LOG_FLUSH_MILLISECONDS = 100;

/** JSON lines to a file descriptor: 1 is stdout, 2 is stderr. */
export function createLogger(level: LogLevel, fileDescriptor: 1 | 2): Logger {
  const stream = destination({
    dest: fileDescriptor,
    sync: false,
    minLength: 4_096,
    periodicFlush: LOG_FLUSH_MILLISECONDS,
  });
  return pino({ level, base: null }, stream);
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
export function closeOnSignal(server: RunningServer, logger: Logger): Promise<void> {
  return new Promise((resolve, reject) => {
    const close = (signal: NodeJS.Signals) => {
      process.off("SIGTERM", close).off("SIGINT", close);
      logger.info({ signal }, "stopping");
      server.close().then(resolve, reject);
    };
    process.on("SIGTERM", close).on("SIGINT", close);
  });
}
