/**
 * Connections beyond the limit: a few more are taken, so that whoever comes is told, and can still ask whether the server is well;
 * spec/http.md § Overload. Beyond those they are dropped without a word.
 */

import type { Server } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { Server as TlsServer } from "node:tls";

/** How many more are taken than the limit says. */
export const SURPLUS_CONNECTIONS = 100;
/** Milliseconds after which a connection beyond the limit is closed if nothing moves on it. */
const SURPLUS_INACTIVITY = 5_000;

const surplus = new WeakSet<Duplex>();

/** Whether only public routes are answered on this connection. */
export function isSurplus(socket: Duplex | undefined): boolean {
  return socket !== undefined && surplus.has(socket);
}

/** Limits the connections of a server that does not listen yet. */
export function limitConnections(server: Server, maxConnections: number): void {
  let open = 0;
  server.maxConnections = maxConnections + SURPLUS_CONNECTIONS;
  // Requests come from what TLS makes of a connection; before that one has nothing but its handshake's time.
  server.on(server instanceof TlsServer ? "secureConnection" : "connection", (socket: Socket) => {
    open++;
    socket.once("close", () => open--);
    if (open <= maxConnections) return;
    surplus.add(socket);
    socket.setTimeout(SURPLUS_INACTIVITY);
  });
}
