/** The closed list of error codes a server answers with, and the status of each; spec/http.md § Errors. */

export const ERROR_STATUS = {
  invalid_request: 400,
  unauthorized: 401,
  permission_denied: 403,
  record_protected: 403,
  record_inactive: 403,
  quota_exceeded: 403,
  not_found: 404,
  record_not_found: 404,
  secret_unregistered: 404,
  request_timeout: 408,
  already_exists: 409,
  id_retired: 409,
  secret_mismatch: 409,
  key_in_use: 409,
  record_expired: 410,
  version_conflict: 412,
  body_too_large: 413,
  unsupported_media_type: 415,
  precondition_required: 428,
  rate_limited: 429,
  internal: 500,
  record_damaged: 500,
  overloaded: 503,
  key_provider_unavailable: 503,
  outcome_unknown: 504,
  storage_full: 507,
} as const;

/** A code of the closed list. */
export type ErrorCode = keyof typeof ERROR_STATUS;

/** Whether `code` is on the closed list. */
export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === "string" && Object.hasOwn(ERROR_STATUS, code);
}

/** What an error tells of the record's current version: its number and its head, so that the client can verify it. */
export interface CurrentVersion {
  version: number;
  /** The 75-byte head, base64url. */
  head: string;
}

/** A write of a batch that met another version than it expects. */
export interface Conflict {
  /** The operation's place in the batch, from 0. */
  index: number;
  /** Null when the key hash never existed. */
  current: CurrentVersion | null;
}

/** Body of every answer that is not a success. */
export interface ErrorBody {
  error: {
    code: ErrorCode;
    message: string;
    requestId: string;
    /** With `version_conflict` (null when the key hash never existed) and `record_expired`. */
    current?: CurrentVersion | null;
    /** With the `version_conflict` of a batch, instead of `current`: every write that was in the way. */
    conflicts?: Conflict[];
  };
}
