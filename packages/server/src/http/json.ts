/** JSON bodies of the administration routes: strict, bounded, and never echoed; spec/http.md § JSON. */

import type { z } from "zod";

import type { Call, Handler, Services } from "./call.js";
import { HttpError } from "./http-error.js";
import type { Reply } from "./reply.js";

function invalid(message: string): HttpError {
  return new HttpError("invalid_request", { message });
}

/** Says which field is wrong and why, in words that hold nothing of what was sent. */
function describe(issue: z.core.$ZodIssue): string {
  const field = issue.path.length === 0 ? "The body" : `Field ${issue.path.join(".")}`;
  return issue.code === "unrecognized_keys" ? `${field} has a field that is not known.` : `${field}: ${issue.message}`;
}

/**
 * Parses a body.
 * @throws {HttpError} `invalid_request` when it is not UTF-8, not JSON, or not what `schema` says.
 */
function parseJson<Schema extends z.ZodType>(schema: Schema, body: Uint8Array): z.output<Schema> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch {
    throw invalid("The body must be JSON in UTF-8.");
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw invalid(issue === undefined ? "The body is not valid." : describe(issue));
}

/** A handler that gets the parsed body, and the schema beside it for the OpenAPI document. */
export function withJson<Schema extends z.ZodType>(
  schema: Schema,
  handler: (call: Call, services: Services, input: z.output<Schema>) => Promise<Reply>,
): { request: Schema; handler: Handler } {
  return { request: schema, handler: (call, services) => handler(call, services, parseJson(schema, call.body)) };
}
