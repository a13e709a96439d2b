/** The app on Node's HTTP server: limits, and uniform answers to what Node refuses by itself; spec/http.md § Limits. */

import { randomUUID } from "node:crypto";
import { STATUS_CODES, createServer, type ServerOptions as HttpServerOptions, type Server } from "node:http";
import type { Socket } from "node:net";

import { getRequestListener } from "@hono/node-server";
import { ERROR_STATUS, HEADERS, type ErrorCode } from "@tacenda/protocol";
import type { Hono } from "hono";

import type { NodeEnv } from "./dispatch.js";
import { errorReply } from "./failures.js";
import { HttpError } from "./http-error.js";
import { ALWAYS_HEADERS } from "./reply.js";

const HEADERS_TIMEOUT_MILLISECONDS = 10_000;
const REQUEST_TIMEOUT_MILLISECONDS = 30_000;
const KEEP_ALIVE_MILLISECONDS = 30_000;
/** How often Node looks for connections past the limits above. */
const CHECK_MILLISECONDS = 1_000;

/** A server that does not listen yet. */
export function createNodeServer(app: Hono<NodeEnv>, maxConnections: number): Server {
  const listener = getRequestListener(app.fetch, { errorHandler: refuseRequest });
  const limits: HttpServerOptions = {
    headersTimeout: HEADERS_TIMEOUT_MILLISECONDS,
    requestTimeout: REQUEST_TIMEOUT_MILLISECONDS,
    keepAliveTimeout: KEEP_ALIVE_MILLISECONDS,
    connectionsCheckingInterval: CHECK_MILLISECONDS,
  };
  // The listener answers what it catches; its promise never rejects.
  const server = createServer(limits, (incoming, outgoing) => void listener(incoming, outgoing));
  server.maxConnections = maxConnections;
  server.on("clientError", refuseClient);
  return server;
}

/** The request is no URL at all, for instance because its Host is impossible. */
function refuseRequest(): Response {
  const { headers, body } = refusal("invalid_request");
  return new Response(body, { status: ERROR_STATUS.invalid_request, headers });
}

/** Node could not parse the request, or it came too slowly. */
function refuseClient(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const code = error.code === "ERR_HTTP_REQUEST_TIMEOUT" ? "request_timeout" : "invalid_request";
  const { headers, body } = refusal(code);
  const lines = Object.entries({
    ...headers,
    "content-length": Buffer.byteLength(body),
    connection: "close",
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  const status = ERROR_STATUS[code];
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\n${lines.join("")}\r\n${body}`);
}

function refusal(code: ErrorCode): { headers: Record<string, string>; body: string } {
  const requestId = randomUUID();
  const { headers, body } = errorReply(new HttpError(code), requestId);
  return { headers: { ...ALWAYS_HEADERS, [HEADERS.requestId]: requestId, ...headers }, body: String(body) };
}
