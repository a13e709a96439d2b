/** Tells a server of another version from one that refuses; spec/http.md § Versions. */

import {
  HEADERS,
  PROTOCOL_VERSION,
  compareProtocolVersions,
  formatProtocolVersion,
  parseProtocolVersion,
  type ErrorCode,
} from "@tacenda/protocol";

import { IncompatibleVersionError } from "../errors.js";

/** What an older server says of a route, a field or a media type that it does not know yet. */
const NOT_UNDERSTOOD: ReadonlySet<ErrorCode> = new Set(["not_found", "invalid_request", "unsupported_media_type"]);
/** Whatever they say besides, they say: try later. */
const PASSING: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/**
 * The error when an answer without success is one because the versions do not go together, else null. `code`: undefined when it is
 * none that this version knows. `ours` is another version in tests alone.
 */
export function versionError(
  { status, headers }: { status: number; headers: Headers },
  code: ErrorCode | undefined,
  ours = PROTOCOL_VERSION,
): IncompatibleVersionError | null {
  const theirs = parseProtocolVersion(headers.get(HEADERS.protocol));
  if (theirs === null) return null;
  const versions = `protocol ${formatProtocolVersion(theirs)}, this SDK ${formatProtocolVersion(ours)}`;
  const order = compareProtocolVersions(theirs, ours);
  if (order > 0 && (theirs.major > ours.major || (code === undefined && !PASSING.has(status)))) {
    return new IncompatibleVersionError(
      `The server speaks ${versions}, which does not understand its answer: update @tacenda/sdk.`,
    );
  }
  if (order < 0 && code !== undefined && NOT_UNDERSTOOD.has(code)) {
    return new IncompatibleVersionError(
      `The server speaks ${versions}, and does not understand the call or has no such store: update the server, or check the store's id.`,
    );
  }
  return null;
}
