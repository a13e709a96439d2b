/** One of several processes that serve one port together; workers.ts has started it, and it ends with that. */

import cluster from "node:cluster";

import { createMetrics } from "../metrics.js";
import { startServerWith } from "../server.js";
import { toServerOptions, type ServeFlags } from "./options.js";
import { createLogger, runServer, showRootToken } from "./process.js";

/** The port that the workers share, for a worker; not set anywhere else. */
export const WORKER_PORT = "TACENDA_WORKER_PORT";

/** What a worker tells. */
export type FromWorker =
  | { tacenda: "listening"; url: string; port: number }
  /** What prom-client makes of a registry. */
  | { tacenda: "metrics"; metrics: object[] };

/** Whether this process was started by workers.ts, and not by some other program with workers of its own. */
export function isWorker(): boolean {
  return cluster.isWorker && process.env[WORKER_PORT] !== undefined;
}

export async function runWorker(flags: ServeFlags, rootToken: string | undefined): Promise<void> {
  const logger = createLogger(flags.logLevel, 1, { pid: process.pid });
  const { metricsPort, ...options } = toServerOptions({ ...flags, port: Number(process.env[WORKER_PORT]) }, rootToken);
  const metrics = metricsPort === undefined ? undefined : createMetrics();
  if (metrics !== undefined) {
    process.on("message", () => {
      // The one thing that is ever asked. Whoever asked does without the answer that does not come.
      void metrics.snapshot().then(
        (snapshot) => tell({ tacenda: "metrics", metrics: snapshot }),
        () => undefined,
      );
    });
  }
  const announce = (token: string) => showRootToken(token, process.stdout);
  await runServer(
    { ...options, ...(process.stdout.isTTY && { announceRootToken: announce }) },
    logger,
    ({ url, port }) => {
      logger.info({}, "worker started");
      tell({ tacenda: "listening", url, port });
    },
    (complete) => startServerWith(complete, metrics),
  );
}

function tell(message: FromWorker): void {
  // When nobody is there any more to hear it, this process is about to end.
  process.send?.(message, undefined, undefined, () => undefined);
}
