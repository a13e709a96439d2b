/** Which paths are looked at, and what stands in them; spec/http.md § Paths. */

import type { IncomingMessage } from "node:http";

import { decodeKeyHash, isId } from "@tacenda/protocol";

import { HttpError } from "./http-error.js";

/** No route has this path, so what gets it is not found. */
const NOWHERE = "/-";

/** Percent signs, dot segments and empty segments: no path of ours has them, and proxies disagree about them. */
function isDoubtful(path: string): boolean {
  return path.includes("%") || path.includes("//") || path.includes("/.");
}

/**
 * The path to route by, undecoded. The request line is looked at as well, where there is one: by the time a URL has
 * been parsed its dot segments are gone.
 */
export function routingPath(request: Request, incoming: IncomingMessage | undefined): string {
  const [line = ""] = (incoming?.url ?? "").split("?", 1);
  const { url } = request;
  const start = url.indexOf("/", url.indexOf(":") + 3);
  const length = url.slice(start).search(/[?#]/);
  const path = length === -1 ? url.slice(start) : url.slice(start, start + length);
  return isDoubtful(path) || isDoubtful(line) ? NOWHERE : path;
}

/** @throws {HttpError} `not_found` when a project's or a store's id could not exist. */
export function checkIds(...ids: readonly (string | undefined)[]): void {
  for (const id of ids) if (id !== undefined && !isId(id)) throw new HttpError("not_found");
}

/** @throws {HttpError} `invalid_request` unless `text` is the one canonical form of 32 bytes. */
export function readKeyHash(text: string): Uint8Array {
  const keyHash = decodeKeyHash(text);
  if (keyHash !== null) return keyHash;
  throw new HttpError("invalid_request", { message: "The key hash must be 43 characters of canonical base64url." });
}

const NO_QUERY: ReadonlyMap<string, string> = new Map();

/**
 * The query parameters, each at most once and only of those in `known`.
 * @throws {HttpError} `invalid_request` for any other.
 */
export function readQuery(url: string, known: readonly string[]): ReadonlyMap<string, string> {
  const start = url.indexOf("?");
  if (start === -1) return NO_QUERY;
  const query = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(url.slice(start).split("#", 1)[0])) {
    if (!known.includes(name) || query.has(name)) {
      const message =
        known.length === 0 ? "This route takes no query." : `The query can have ${known.join(", ")}, once.`;
      throw new HttpError("invalid_request", { message });
    }
    query.set(name, value);
  }
  return query;
}
