/** `tacenda-server serve`: runs the server, in one process or several, until it is told to stop; spec/http.md § Starting. */

import { InvalidOptionError } from "../startup-error.js";
import { toServerOptions } from "./options.js";
import { createLogger, runServer, showRootToken } from "./process.js";
import { isWorker, runWorker } from "./worker.js";
import { runWorkers, type WorkersFlags } from "./workers.js";

export async function serve(flags: WorkersFlags, rootToken: string | undefined): Promise<void> {
  if (isWorker()) {
    await runWorker(flags, rootToken);
  } else if (flags.workers > 1) {
    if (flags.databaseUrl === undefined) {
      throw new InvalidOptionError(
        "--workers (TACENDA_WORKERS) needs --database-url (TACENDA_DATABASE_URL): several processes can share a PostgreSQL database, " +
          "the embedded one serves a single process.",
      );
    }
    await runWorkers(flags);
  } else {
    await runAlone(flags, rootToken);
  }
}

async function runAlone(flags: WorkersFlags, rootToken: string | undefined): Promise<void> {
  const logger = createLogger(flags.logLevel, 1);
  const options = {
    ...toServerOptions(flags, rootToken),
    ...(process.stdout.isTTY && { announceRootToken: (token: string) => showRootToken(token, process.stdout) }),
  };
  await runServer(options, logger, (server) => {
    logger.info({ url: server.url, metricsUrl: server.metricsUrl }, "listening");
  });
}
