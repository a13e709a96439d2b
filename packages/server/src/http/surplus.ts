/**
 * Connections beyond the limit: a few more are taken, so that whoever comes is told, and can still ask whether the server is well;
 * spec/http.md § Overload. Beyond those they are dropped without a word.
 */

import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

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
  server.on("connection", (socket) => {
    open++;
    socket.once("close", () => open--);
    if (open <= maxConnections) return;
    surplus.add(socket);
    socket.setTimeout(SURPLUS_INACTIVITY);
  });
}

/** Closes the connection after this answer. While a body is still on its way, what closes it would take the answer with it. */
export function closeAfterAnswer(incoming: IncomingMessage, outgoing: ServerResponse): void {
  const { socket } = incoming;
  const { "content-length": length = "0", "transfer-encoding": coding } = incoming.headers;
  if (length === "0" && coding === undefined) {
    outgoing.setHeader("connection", "close");
    return;
  }
  outgoing.once("finish", () => {
    if (incoming.readableEnded) socket.destroySoon();
    else incoming.once("end", () => socket.destroySoon());
  });
}
