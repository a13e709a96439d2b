/** `tacenda-server serve`: runs the server until it is told to stop. */

import { startServer } from "../server.js";
import { toServerOptions, type ServeFlags } from "./options.js";
import { closeOnSignal, createLogger, showRootToken } from "./process.js";

export async function serve(flags: ServeFlags, rootToken: string | undefined): Promise<void> {
  const logger = createLogger(flags.logLevel, 1);
  const server = await startServer({
    ...toServerOptions(flags, rootToken),
    logger,
    ...(process.stdout.isTTY && { announceRootToken: (token: string) => showRootToken(token, process.stdout) }),
  });
  logger.info({ url: server.url, metricsUrl: server.metricsUrl }, "listening");
  await closeOnSignal(server, logger);
  logger.info({}, "stopped");
  logger.flush();
}
