/** An answer that is not a success, thrown from wherever it is known; spec/http.md § Errors. */

import type { Conflict, CurrentVersion, ErrorCode } from "@tacenda/protocol";

/** What to tell a caller when the thrower has nothing more exact to say. No message holds anything of the request. */
const MESSAGES: Record<ErrorCode, string> = {
  invalid_request: "The request is not valid.",
  unauthorized: "Send a valid token: Authorization: Bearer <token>.",
  permission_denied: "This token does not have the permission that the request needs. Ask the project's administrator.",
  record_protected: "The record is protected. Clear its protection before deleting, moving or purging it.",
  record_inactive: "The record is inactive. Activate it before reading it.",
  quota_exceeded:
    "The project has reached a limit that is set for it. Delete what is not needed, or ask the server's operator.",
  not_found: "There is nothing here that this token can reach. Check the path, the project and the store.",
  record_not_found: "There is no such record, or the version is not kept.",
  secret_unregistered: "The secret is not registered for this store yet. Write with it once, with a token that may.",
  request_timeout: "The request took too long to arrive. Send it again.",
  already_exists: "The id is taken. Choose another one.",
  id_retired: "The id belonged to something that was destroyed and is never used again. Choose another one.",
  secret_mismatch: "The secret is not the one this store was first used with.",
  key_in_use: "The key is in use. Look at the status of the keys.",
  record_expired: "The record has expired. Write a new version to use the key again.",
  version_conflict: "The record is at another version than the request expects. Read it and try again.",
  body_too_large: "The body is larger than this route accepts.",
  unsupported_media_type: "The Content-Type is not the one this route accepts.",
  precondition_required: "Say which version you expect: If-None-Match: * or If-Match with the version.",
  rate_limited: "Too many requests. Wait before the next one.",
  internal: "The server failed. Its log has the details under the request id.",
  record_damaged: "The stored record is damaged. Restore it from a backup.",
  overloaded: "The server is busy, or its database is away. Try again.",
  key_provider_unavailable: "The server's key provider cannot be used now. Try again later.",
  outcome_unknown:
    "The database has not said whether it wrote. Look, or send the same record again: it is not written twice.",
  storage_full: "The server's storage is full. Reads go on; make room before writing.",
};

export interface HttpErrorOptions {
  /** Instead of the code's usual message. It must not hold anything of the request's values. */
  message?: string;
  /** Of the record that the request is about; null when it never existed. */
  current?: CurrentVersion | null;
  /** Of a batch, instead of `current`: every write that was in the way. */
  conflicts?: Conflict[];
  /** Seconds to wait before the next request. */
  retryAfter?: number;
  /** What was thrown before; it is logged. */
  cause?: unknown;
}

/** Ends a request with the status and body of `code`. */
export class HttpError extends Error {
  override name = "HttpError";
  readonly code: ErrorCode;
  readonly current: CurrentVersion | null | undefined;
  readonly conflicts: Conflict[] | undefined;
  readonly retryAfter: number | undefined;
  constructor(code: ErrorCode, options: HttpErrorOptions = {}) {
    super(options.message ?? MESSAGES[code], { cause: options.cause });
    this.code = code;
    this.current = options.current;
    this.conflicts = options.conflicts;
    this.retryAfter = options.retryAfter;
  }
}
