/** Node's HTTPS server with our certificate; spec/http.md § TLS. What is above the connections is node-server.ts. */

import type { RequestListener, ServerOptions } from "node:http";
import { createServer, type Server } from "node:https";
import type { SecureContextOptions } from "node:tls";

import type { ServerCertificate } from "../server-certificate.js";
import type { KeyPair } from "../tls-files.js";

/** `handshake`: milliseconds that one may take. */
export function createTlsServer(
  options: ServerOptions,
  handshake: number,
  certificate: Pick<ServerCertificate, "current" | "follow">,
  listener: RequestListener,
): Server {
  const server = createServer(
    { ...options, ...contextOf(certificate.current), ALPNProtocols: ["http/1.1"], handshakeTimeout: handshake },
    listener,
  );
  // Before the listener for errors of HTTP, which Node tells of this too: no answer ever leaves where no handshake succeeded, and
  // a connection whose handshake has only taken too long would stay.
  server.prependListener("tlsClientError", (_error, socket) => socket.destroy());
  // Connections that there are keep what they began with.
  certificate.follow((renewed) => server.setSecureContext(contextOf(renewed)));
  return server;
}

/** All of it each time: what is left out falls back to Node's defaults. */
function contextOf({ cert, key }: KeyPair): SecureContextOptions {
  return { cert, key, minVersion: "TLSv1.2" };
}
