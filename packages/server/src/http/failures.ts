/** Maps everything that can be thrown to the closed list of errors; spec/http.md § Errors. */

import {
  ERROR_STATUS,
  HEADERS,
  PROTOCOL_VERSION,
  formatProtocolVersion,
  type ErrorBody,
  type ErrorCode,
} from "@tacenda/protocol";

import { DamagedRecordError, StoreGoneError } from "../envelope/errors.js";
import { KeyProviderError } from "../envelope/key-provider.js";
import { KeyAdministrationError } from "../keys/key-administration.js";
import { StaleKeyError, StorageBusyError, StorageError, StorageFullError } from "../storage/record-store.js";
import { HttpError } from "./http-error.js";
import { jsonReply, type Reply } from "./reply.js";

const HEADERS_OF: Readonly<Partial<Record<ErrorCode, Readonly<Record<string, string>>>>> = {
  unauthorized: { "www-authenticate": "Bearer" },
  overloaded: { "retry-after": "1" },
};

const KEY_CODES = {
  invalid: "invalid_request",
  in_use: "key_in_use",
  unavailable: "key_provider_unavailable",
} as const;

/** Tells a client of another version why it is not understood; spec/http.md § Versions. */
const VERSION_HEADER = { [HEADERS.protocol]: formatProtocolVersion(PROTOCOL_VERSION) };

/** The error a caller is told for what was thrown. Whatever is not known is `internal`, with nothing said about it. */
export function toHttpError(error: unknown): HttpError {
  if (error instanceof HttpError) return error;
  if (error instanceof StoreGoneError) return new HttpError("not_found");
  if (error instanceof DamagedRecordError) return new HttpError("record_damaged");
  if (error instanceof KeyProviderError) return new HttpError("key_provider_unavailable");
  if (error instanceof KeyAdministrationError) {
    return new HttpError(KEY_CODES[error.fault], { message: error.message, cause: error.cause });
  }
  if (error instanceof StorageFullError) return new HttpError("storage_full");
  if (error instanceof StaleKeyError || error instanceof StorageBusyError || isBusy(error))
    return new HttpError("overloaded");
  if (error instanceof StorageError && error.outcome === "unknown") return new HttpError("outcome_unknown");
  return new HttpError("internal");
}

/** Whether it says no to what was asked, and nothing has failed. */
export function isRefusal(error: unknown): boolean {
  return error instanceof KeyAdministrationError || error instanceof StoreGoneError;
}

/** Nothing was written, and only because another process held the database. */
function isBusy(error: unknown): boolean {
  if (!(error instanceof StorageError) || error.outcome !== "none") return false;
  const { cause } = error;
  return cause instanceof Error && "code" in cause && String(cause.code).startsWith("SQLITE_BUSY");
}

/** The uniform answer: `{"error": {code, message, requestId, current?, conflicts?}}`. */
export function errorReply(error: HttpError, requestId: string): Reply {
  const { code, message, current, conflicts, retryAfter } = error;
  const details = { ...(current !== undefined && { current }), ...(conflicts !== undefined && { conflicts }) };
  const body: ErrorBody = { error: { code, message, requestId, ...details } };
  return jsonReply(ERROR_STATUS[code], body, {
    ...VERSION_HEADER,
    ...HEADERS_OF[code],
    ...(retryAfter !== undefined && { "retry-after": String(retryAfter) }),
  });
}
