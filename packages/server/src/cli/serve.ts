/** `tacenda-server serve`: runs the server until it is told to stop; spec/http.md § Starting. */

import { toServerOptions, type ServeFlags } from "./options.js";
import { createLogger, runServer, showRootToken } from "./process.js";

export async function serve(flags: ServeFlags, rootToken: string | undefined): Promise<void> {
  const logger = createLogger(flags.logLevel, 1);
  const options = {
    ...toServerOptions(flags, rootToken),
    ...(process.stdout.isTTY && { announceRootToken: (token: string) => showRootToken(token, process.stdout) }),
  };
  await runServer(options, logger, (server) => {
    logger.info({ url: server.url, metricsUrl: server.metricsUrl }, "listening");
  });
}
