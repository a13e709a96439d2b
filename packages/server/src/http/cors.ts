/** Cross-origin access for the one origin that was configured; spec/http.md § CORS. Without one none of this is used. */

import { HEADERS } from "@tacenda/protocol";
import type { Context } from "hono";

import { answerUnmatched, type NodeEnv, type Pipeline } from "./dispatch.js";
import type { Reply } from "./reply.js";

const PREFLIGHT: Reply = {
  status: 204,
  headers: {
    "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE",
    "access-control-allow-headers": "authorization, content-type, if-match, if-none-match",
    "access-control-max-age": "600",
  },
};

/** What every answer has, so that pages of `origin` may read it. */
export function corsHeaders(origin: string): Record<string, string> {
  return {
    "access-control-allow-origin": origin,
    "access-control-expose-headers": ["etag", "retry-after", ...Object.values(HEADERS)].join(", "),
  };
}

/** Answers a browser's question before a request. It says the same of every path, so it tells nothing. */
export function preflight(context: Context<NodeEnv>, pipeline: Pipeline): Response {
  return answerUnmatched(context, PREFLIGHT, pipeline);
}
