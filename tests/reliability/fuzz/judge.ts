/** What every answer must be, whatever was asked; spec/http.md § Answers, § Errors. */

import { ERROR_STATUS, isErrorCode } from "@tacenda/protocol";

import { errorBody } from "../../../packages/server/src/http/schemas.ts";
import { routeOf, type FuzzRequest, type Rendered } from "./requests.ts";
import { NEEDLE } from "./scene.ts";
import type { Exchange, WireAnswer } from "./wire.ts";

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** The only failures of its own that a server may tell of. */
const DOCUMENTED: readonly number[] = [503, 507];

/** What is wrong with what came back for a request, or for garbage. */
export function judge(exchange: Exchange, request: FuzzRequest | null, rendered: Rendered | null): string | null {
  const { answers, broken, hung } = exchange;
  if (hung) return "no end came";
  if (broken) return "what came is no whole answer";
  const isWhole = rendered !== null && !rendered.isPartial && !rendered.hasMore;
  if (isWhole && answers.length === 0) return "there was no answer";
  for (const answer of answers) {
    const fault = judgeAnswer(answer, rendered?.method === "HEAD");
    if (fault !== null) return `${answer.status}: ${fault}`;
  }
  const [answer] = answers;
  if (answer === undefined || request === null || rendered === null || answer.status >= 400) return null;
  return judgeSuccess(answer, request, rendered);
}

function judgeAnswer({ status, headers, body }: WireAnswer, isHead: boolean): string | null {
  if (status >= 500 && !DOCUMENTED.includes(status)) return `a failure: ${body.toString()}`;
  if (status >= 300 && status < 400 && status !== 304) return "a redirect";
  if (headers.get("cache-control") !== "no-store") return "it may be cached";
  if (!UUID.test(headers.get("tacenda-request-id") ?? "")) return "it has no request id";
  if (status < 400 || isHead) return null;
  const parsed = errorBody.safeParse(jsonOf(body));
  if (!parsed.success) return `no error body: ${body.toString()}`;
  const { code, requestId } = parsed.data.error;
  if (!isErrorCode(code) || ERROR_STATUS[code] !== status) return `a code that does not go with it: ${code}`;
  if (requestId !== headers.get("tacenda-request-id")) return "two request ids";
  if (headers.get("content-type") !== "application/json") return "an error of another media type";
  // Only to the root token: it names the stores whose keys are in the way.
  const names = code === "key_in_use";
  return body.includes(NEEDLE) && !names ? "the error quotes the request" : null;
}

function judgeSuccess(answer: WireAnswer, request: FuzzRequest, rendered: Rendered): string | null {
  const { status, body } = answer;
  const { sender } = request;
  const route = routeOf(request);
  if (rendered.atCanary && route.permission !== "public") return "the canary was reached";
  if (!rendered.isRouted) return null;
  const isStranger = sender === "nobody" || sender === "malformed" || sender === "dead";
  if (isStranger && route.permission !== "public") return "a stranger was let in";
  const shape = route.answers[status];
  if (shape === undefined) return `the route has no such answer`;
  if (shape === "empty") return body.length === 0 ? null : "a body where there is none";
  if (shape === "record") return body.length >= 75 ? null : "a record that is none";
  return shape.safeParse(jsonOf(body)).success ? null : `another shape than the route's: ${body.toString()}`;
}

function jsonOf(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    return undefined;
  }
}
