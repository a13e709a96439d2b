/**
 * What happens to every request, in this order: authenticate, authorize, check the path, the query and the media type,
 * read the body, wait for a turn, handle, answer, count and log. spec/http.md § Order of checks.
 */

import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";

import { HEADERS, RECORD_MEDIA_TYPE } from "@tacenda/protocol";
import type { Context } from "hono";

import type { Authenticator } from "../auth/authenticator.js";
import { authorize } from "../auth/authorize.js";
import { NOBODY, type Principal } from "../auth/principal.js";
import { describeError, type Logger } from "../logger.js";
import type { Metrics } from "../metrics.js";
import type { Admission } from "./admission.js";
import type { AddressOf } from "./client-address.js";
import { brokenOff, discardBody, readBody } from "./body.js";
import type { Call, Services } from "./call.js";
import { errorReply, isRefusal, toHttpError } from "./failures.js";
import { HttpError } from "./http-error.js";
import { checkIds, readKeyHash, readQuery } from "./paths.js";
import type { Reply } from "./reply.js";
import type { Route } from "./routes.js";
import { isSurplus } from "./surplus.js";

/** What @hono/node-server adds to a request; absent when the app is called in-process. */
export interface NodeEnv {
  Bindings: { incoming?: IncomingMessage; outgoing?: ServerResponse };
}

/** One access, for an access log. It never holds a key hash, a path or a query. */
export interface AccessEvent {
  readonly requestId: string;
  /** Null when the caller was not authenticated. */
  readonly principal: Principal | null;
  /** The route's template. */
  readonly route: string;
  readonly method: string;
  readonly status: number;
  /** The client's, as far as trusted proxies tell it; absent where there is no connection any more. */
  readonly address?: string;
  /** Only of requests that were authorized. */
  readonly project?: string;
  readonly store?: string;
}

export interface Pipeline {
  readonly authenticator: Authenticator;
  readonly admission: Admission;
  readonly services: Services;
  readonly logger: Logger;
  readonly metrics?: Metrics | undefined;
  readonly onAccess?: ((event: AccessEvent) => void) | undefined;
  readonly addressOf: AddressOf;
  /** Headers of every answer. */
  readonly headers: Readonly<Record<string, string>>;
}

/** The template under which requests that no route answers are logged and counted. */
const UNMATCHED = "unmatched";
const KNOWN_METHODS = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

/** Answers that end with their headers by their status; every other empty body has to say its length, or goes out chunked. */
const BODILESS = new Set([204, 304]);

const NO_BYTES = new Uint8Array(0);

/** One request on its way through the pipeline. */
interface Passage {
  readonly started: number;
  readonly requestId: string;
  readonly route: string;
  readonly method: string;
  readonly address: string | undefined;
  principal: Principal | null;
  /** Set once the request was authorized. */
  project?: string;
  store?: string;
}

/** Answers a request that matched `route`. Never throws. */
export async function dispatch(context: Context<NodeEnv>, route: Route, pipeline: Pipeline): Promise<Response> {
  const passage = begin(context, route.path, pipeline);
  try {
    const reply = await handle(context, route, pipeline, passage);
    pipeline.admission.holdAnswer(reply, nodeOf(context).outgoing);
    return finish(reply, passage, pipeline);
  } catch (error) {
    return fail(error, passage, pipeline);
  }
}

/** Answers a request that no route matches. */
export function dispatchUnmatched(context: Context<NodeEnv>, pipeline: Pipeline): Response {
  return fail(new HttpError("not_found"), begin(context, UNMATCHED, pipeline), pipeline);
}

/** Gives an answer that depends on no route. */
export function answerUnmatched(context: Context<NodeEnv>, reply: Reply, pipeline: Pipeline): Response {
  return finish(reply, begin(context, UNMATCHED, pipeline), pipeline);
}

/** Answers a request on which something failed outside the pipeline. */
export function dispatchFailed(context: Context<NodeEnv>, error: unknown, pipeline: Pipeline): Response {
  return fail(error, begin(context, UNMATCHED, pipeline), pipeline);
}

function begin(context: Context<NodeEnv>, route: string, { addressOf }: Pipeline): Passage {
  const { method: named } = context.req;
  const method = KNOWN_METHODS.has(named) ? named : "OTHER";
  // Now, for a connection that is gone has none.
  const address = addressOf(nodeOf(context).incoming);
  return { started: performance.now(), requestId: randomUUID(), route, method, address, principal: null };
}

/** Called in-process an app has no environment, whatever Hono's types say. */
function nodeOf({ env }: { env: NodeEnv["Bindings"] | undefined }): NodeEnv["Bindings"] {
  return env ?? {};
}

async function handle(
  context: Context<NodeEnv>,
  route: Route,
  { authenticator, admission, services }: Pipeline,
  passage: Passage,
): Promise<Reply> {
  const { req } = context;
  const { incoming } = nodeOf(context);
  // Hono routes HEAD to GET.
  if (req.method !== route.method) throw new HttpError("not_found");
  if (route.permission !== "public" && isSurplus(incoming?.socket)) {
    await discardBody(incoming, route.cap);
    throw new HttpError("overloaded");
  }
  const { headers } = req.raw;
  const project = req.param("project");
  const store = req.param("store");
  if (route.permission !== "public") {
    passage.principal = await authenticator.authenticate(headers.get("authorization"));
    if (passage.principal === null) throw new HttpError("unauthorized");
    services.rateLimit?.take(passage.principal);
    authorize(passage.principal, route.permission, { project, store });
  }
  checkIds(project, store);
  if (project !== undefined) passage.project = project;
  if (store !== undefined) passage.store = store;
  const hash = req.param("hash");
  const query = readQuery(req.raw.url, route.query);
  checkMediaType(headers, route);
  const keyHash = hash === undefined ? NO_BYTES : readKeyHash(hash);
  const hold = admission.holdBody(route);
  try {
    const call: Call = {
      // Public handlers look at no principal; nothing is authorized by this one.
      principal: passage.principal ?? NOBODY,
      project: project ?? "",
      store: store ?? "",
      token: req.param("token") ?? "",
      keyHash,
      query,
      headers,
      body: hold === null ? NO_BYTES : await readBody(req.raw, incoming, route.cap, hold),
    };
    const turn = admission.begin(route);
    const leave = turn instanceof Promise ? await turn : turn;
    try {
      // Who has given up while it waited needs no work done.
      if (incoming?.socket.destroyed === true) throw brokenOff();
      return await route.handler(call, services);
    } finally {
      leave();
    }
  } finally {
    hold?.release();
  }
}

/** The media types of bodies, and how they may be written. */
const MEDIA_TYPES = {
  json: { name: "application/json", pattern: /^application\/json(?: *; *charset="?utf-8"?)? *$/i },
  bytes: { name: RECORD_MEDIA_TYPE, pattern: /^application\/octet-stream *$/i },
} as const;

/** @throws {HttpError} `unsupported_media_type` unless the body is announced as what the route takes. */
function checkMediaType(headers: Headers, { body }: Route): void {
  const announced = headers.get("content-type");
  if (body === "none" || (body === "optional bytes" && announced === null)) return;
  const { name, pattern } = MEDIA_TYPES[body === "json" ? "json" : "bytes"];
  if (pattern.test(announced ?? "")) return;
  throw new HttpError("unsupported_media_type", { message: `Send the body as Content-Type: ${name}.` });
}

function fail(error: unknown, passage: Passage, pipeline: Pipeline): Response {
  const answer = toHttpError(error);
  if (answer.code === "overloaded") pipeline.metrics?.countShed();
  const cause = error === answer || isRefusal(error) ? answer.cause : error;
  if (cause !== undefined) {
    pipeline.logger.error(
      { requestId: passage.requestId, route: passage.route, method: passage.method, error: describeError(cause) },
      "request failed",
    );
  }
  return finish(errorReply(answer, passage.requestId), passage, pipeline);
}

function finish(reply: Reply, passage: Passage, { headers, metrics, logger, onAccess }: Pipeline): Response {
  const { requestId, principal, route, method, address, started } = passage;
  const { status } = reply;
  const milliseconds = performance.now() - started;
  metrics?.observe(route, method, status, milliseconds / 1_000);
  logger.info({ requestId, route, method, status, milliseconds, principal: principal?.id, address }, "request");
  onAccess?.(accessEvent(passage, status));
  const body = reply.body ?? null;
  return new Response(body as BodyInit | null, {
    status,
    headers: {
      ...headers,
      [HEADERS.requestId]: requestId,
      ...reply.headers,
      ...(body === null && !BODILESS.has(status) && { "content-length": "0" }),
    },
  });
}

function accessEvent(
  { requestId, principal, route, method, address, project, store }: Passage,
  status: number,
): AccessEvent {
  return {
    requestId,
    principal,
    route,
    method,
    status,
    ...(address !== undefined && { address }),
    ...(project !== undefined && { project }),
    ...(store !== undefined && { store }),
  };
}
