/** Conditional headers and entity tags; spec/http.md § Preconditions. */

import { parseVersionTag } from "@tacenda/protocol";

import { HttpError } from "./http-error.js";

function invalid(message: string): HttpError {
  return new HttpError("invalid_request", { message });
}

function readIfMatch(tag: string): number {
  const version = parseVersionTag(tag);
  if (version === null) throw invalid('If-Match must be one strong version tag, for instance "3".');
  return version;
}

/**
 * The version a write expects to be current; 0 means that the key hash never existed.
 * @throws {HttpError} `precondition_required` without a condition, `invalid_request` for a bad one or for both.
 */
export function expectedVersion(headers: Headers): number {
  const ifMatch = headers.get("if-match");
  const ifNoneMatch = headers.get("if-none-match");
  if (ifMatch !== null && ifNoneMatch !== null) throw invalid("Send either If-Match or If-None-Match, not both.");
  if (ifMatch !== null) return readIfMatch(ifMatch);
  if (ifNoneMatch === null) throw new HttpError("precondition_required");
  if (ifNoneMatch !== "*") throw invalid("If-None-Match of a write must be *.");
  return 0;
}

/**
 * The version a change of attributes expects to be current.
 * @throws {HttpError} `precondition_required` without If-Match, `invalid_request` for a bad one.
 */
export function expectedCurrent(headers: Headers): number {
  if (headers.get("if-none-match") !== null) throw invalid("This route takes If-Match, not If-None-Match.");
  const ifMatch = headers.get("if-match");
  if (ifMatch === null) throw new HttpError("precondition_required");
  return readIfMatch(ifMatch);
}

/** Whether a read's If-None-Match (a list of tags, weak ones included, or `*`) names `tag`. */
export function matchesTag(ifNoneMatch: string, tag: string): boolean {
  return ifNoneMatch.split(",").some((item) => {
    const candidate = item.trim();
    return candidate === "*" || candidate === tag || candidate === `W/${tag}`;
  });
}
