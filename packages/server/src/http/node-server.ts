/**
 * The app on Node's HTTP or HTTPS server: limits, and uniform answers to what Node refuses by itself; spec/http.md § Limits,
 * § Transport.
 */

import { randomUUID } from "node:crypto";
import { IncomingMessage, STATUS_CODES, createServer, type Server, type ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

import { getRequestListener } from "@hono/node-server";
import { ERROR_STATUS, HEADERS, type ErrorCode } from "@tacenda/protocol";
import type { Hono } from "hono";

import type { ServerCertificate } from "../server-certificate.js";
import type { NodeEnv } from "./dispatch.js";
import { errorReply } from "./failures.js";
import { HttpError } from "./http-error.js";
import { ALWAYS_HEADERS } from "./reply.js";
import { isSurplus, limitConnections } from "./surplus.js";
import { createTlsServer } from "./tls-server.js";

/** How long a client may take, in milliseconds. */
export interface TimeLimits {
  /** For a whole request, from its first byte to its last. */
  readonly request: number;
  /** For a connection on which nothing moves, whosever turn it is: it ends an answer that nobody reads. */
  readonly inactivity: number;
}

const TIME_LIMITS: TimeLimits = { request: 30_000, inactivity: 60_000 };
const HEADERS_MILLISECONDS = 10_000;
/** Of the request line and all headers together. */
const MAX_HEADER_BYTES = 16_384;
const KEEP_ALIVE_MILLISECONDS = 30_000;
/** How often Node looks for requests past the limits above. */
const CHECK_MILLISECONDS = 1_000;

/** The answer that each connection waits for, from its request's arrival until the last byte was given to the system. */
const outstanding = new WeakMap<Duplex, ServerResponse>();
const unparsed = new WeakSet<IncomingMessage>();

/**
 * A request that comes while an answer is outstanding is taken for one that leaves HTTP: Node parses no further then,
 * and closes the connection. Otherwise it makes an object of every request in 64 KiB of them before it closes anything.
 */
class SoleMessage extends IncomingMessage {
  get upgrade(): boolean {
    return unparsed.has(this);
  }
  set upgrade(value: boolean) {
    if (value || outstanding.has(this.socket)) unparsed.add(this);
    else unparsed.delete(this);
  }
}

/** A server that does not listen yet; with a certificate it speaks TLS and nothing else. */
export function createNodeServer(
  app: Hono<NodeEnv>,
  maxConnections: number,
  limits = TIME_LIMITS,
  certificate?: Pick<ServerCertificate, "current" | "follow">,
): Server {
  const listener = getRequestListener(app.fetch, { errorHandler: refuseRequest });
  const options = {
    IncomingMessage: SoleMessage,
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: Math.min(HEADERS_MILLISECONDS, limits.request),
    requestTimeout: limits.request,
    keepAliveTimeout: KEEP_ALIVE_MILLISECONDS,
    connectionsCheckingInterval: CHECK_MILLISECONDS,
    // Node's own refusal has no body; the listener's is uniform.
    requireHostHeader: false,
  };
  const onRequest = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    // The listener answers what it catches; its promise never rejects.
    if (isInTurn(incoming, outgoing)) void listener(incoming, outgoing);
  };
  const server: Server =
    certificate === undefined
      ? createServer(options, onRequest)
      : createTlsServer(options, options.headersTimeout, certificate, onRequest);
  // Whatever a request expects besides "100-continue".
  server.on("checkExpectation", (incoming: IncomingMessage, outgoing: ServerResponse) => {
    if (!isInTurn(incoming, outgoing)) return;
    const { headers, body } = refusal("invalid_request");
    outgoing.writeHead(ERROR_STATUS.invalid_request, { ...headers, connection: "close" }).end(body);
  });
  server.timeout = limits.inactivity;
  limitConnections(server, maxConnections);
  // Among several processes on a port a connection beyond the limit would be handed on and on (Node's types lack it).
  Object.assign(server, { dropMaxConnection: true });
  server.on("clientError", refuseClient);
  return server;
}

/** Requests sent before the last answer was read would pile up answers in memory, at no cost to the client. */
function isInTurn(incoming: IncomingMessage, outgoing: ServerResponse): boolean {
  const { socket } = incoming;
  if (outstanding.has(socket)) {
    socket.destroy();
    return false;
  }
  outstanding.set(socket, outgoing);
  outgoing.once("close", () => outstanding.delete(socket));
  if (isSurplus(socket)) outgoing.setHeader("connection", "close");
  return true;
}

/** The request is no URL at all, for instance because its Host is impossible. */
function refuseRequest(): Response {
  const { headers, body } = refusal("invalid_request");
  return new Response(body, { status: ERROR_STATUS.invalid_request, headers });
}

/** Node could not parse the request, or it came too slowly. */
function refuseClient(error: NodeJS.ErrnoException, socket: Duplex): void {
  const response = outstanding.get(socket);
  // Bytes behind a whole request: what is said of them here would be taken for the answer to that request.
  const isOfAnother = response !== undefined && (response.headersSent || response.req.complete);
  if (error.code === "ECONNRESET" || !socket.writable || isOfAnother) {
    socket.destroy();
    return;
  }
  const code = error.code === "ERR_HTTP_REQUEST_TIMEOUT" ? "request_timeout" : "invalid_request";
  const { headers, body } = refusal(code);
  const lines = Object.entries({
    ...headers,
    connection: "close",
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  const status = ERROR_STATUS[code];
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n${lines.join("")}\r\n${body}`);
}

function refusal(code: ErrorCode): { headers: Record<string, string>; body: string } {
  const requestId = randomUUID();
  const { headers, body } = errorReply(new HttpError(code), requestId);
  const text = String(body);
  const length = { "content-length": String(Buffer.byteLength(text)) };
  return { headers: { ...ALWAYS_HEADERS, [HEADERS.requestId]: requestId, ...headers, ...length }, body: text };
}
