/** What a server answered, and the typed error that an answer without success becomes; spec/http.md § Errors. */

import { ERROR_STATUS, type ErrorBody, type ErrorCode, isErrorCode } from "@tacenda/protocol";

import {
  AlreadyExistsError,
  ConfigurationError,
  IdRetiredError,
  KeyInUseError,
  KeyProviderUnavailableError,
  OutcomeUnknownError,
  OverloadedError,
  PermissionDeniedError,
  ProtocolError,
  QuotaExceededError,
  RateLimitedError,
  RecordInactiveError,
  RecordProtectedError,
  ServerFaultError,
  ServerUnreachableError,
  StorageFullError,
  StoreNotFoundError,
  type TacendaError,
  TokenRefusedError,
  ValueTooLargeError,
} from "../errors.js";
import { versionError } from "./version-error.js";

export interface Answer {
  status: number;
  headers: Headers;
  bytes: Uint8Array;
  /** The request was sent before, got no clear answer, and may have been carried out then. */
  resent: boolean;
}

/** The error body of an answer; undefined when it has none that a Tacenda server writes. */
export function errorBody(answer: Answer): ErrorBody["error"] | undefined {
  const error = (parseJson(answer.bytes) as Partial<ErrorBody> | null | undefined)?.error as
    ErrorBody["error"] | null | undefined;
  if (typeof error !== "object" || error === null || !isErrorCode(error.code)) return undefined;
  return ERROR_STATUS[error.code] === answer.status ? error : undefined;
}

/** The JSON value in a body, or undefined when it is none. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

/**
 * The error of an answer. It quotes nothing of the answer but a request id in the form of a UUID: a hostile server could
 * send the token back in a message, and the caller would log it.
 */
export function errorOf(answer: Answer): TacendaError {
  const error = errorBody(answer);
  const mismatch = versionError(answer, error?.code);
  if (mismatch !== null) return mismatch;
  const details = { retryAfter: retryAfterOf(answer) };
  if (error === undefined) return foreignError(answer.status, details);
  return KNOWN_ERRORS[error.code]({ ...details, ...requestIdOf(error.requestId) });
}

function requestIdOf(requestId: unknown): { requestId: string | undefined } {
  const known = typeof requestId === "string" && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(requestId);
  return { requestId: known ? requestId : undefined };
}

/** Milliseconds that the answer asks to wait; undefined when it does not say. Dates, which nobody uses, are not understood. */
export function retryAfterOf({ headers }: Pick<Answer, "headers">): number | undefined {
  const [seconds] = /^\d{1,6}$/.exec(headers.get("retry-after") ?? "") ?? [];
  return seconds === undefined ? undefined : Number(seconds) * 1_000;
}

/** Answers that are not in Tacenda's form: a proxy's, or another service's. */
function foreignError(status: number, details: { retryAfter: number | undefined }): TacendaError {
  if (status === 429) {
    return new RateLimitedError("The server, or a proxy, answered 429. Send fewer requests, and try later.", details);
  }
  if (status === 503) return new OverloadedError("The server, or a proxy, answered 503. Try later.", details);
  if (status === 502 || status === 504) {
    return new ServerUnreachableError(`A proxy answered ${status}: it did not reach the server. Try again.`);
  }
  if (status === 0 || (status >= 300 && status < 400 && status !== 304)) {
    return new ProtocolError(
      "The server answered with a redirect. Redirects are never followed: set `url` to the target.",
    );
  }
  return new ProtocolError(
    `The answer (status ${status}) is not a Tacenda server's: check \`url\` and what lies before it.`,
  );
}

interface Details {
  requestId: string | undefined;
  retryAfter: number | undefined;
}

const serverFault = (what: string) => (details: Details) =>
  new ServerFaultError(`${what} The server's operator finds the cause under requestId.`, details);

const unexpected = (code: ErrorCode) => (details: Details) =>
  new ProtocolError(
    `The server answered "${code}", which does not fit the request. Are SDK and server of one version?`,
    details,
  );

const overloaded = (what: string) => (details: Details) =>
  new OverloadedError(
    `${what} Try again after a while (\`retryAfter\`); if it lasts, see the server's log with \`requestId\`.`,
    details,
  );

/** One error per code of the closed list. Codes that a caller handles itself are unexpected anywhere else. */
const KNOWN_ERRORS: Record<ErrorCode, (details: Details) => TacendaError> = {
  invalid_request: unexpected("invalid_request"),
  unauthorized: (details) =>
    new TokenRefusedError("The server does not know this token, or it has expired: check TACENDA_TOKEN.", details),
  permission_denied: (details) =>
    new PermissionDeniedError("The token lacks the permission: ask the project's administrator for a grant.", details),
  record_protected: (details) =>
    new RecordProtectedError("The entry is protected: clear its protection before deleting it.", details),
  record_inactive: (details) => new RecordInactiveError("The entry is inactive: make it active to read it.", details),
  quota_exceeded: (details) =>
    new QuotaExceededError(
      "The project has reached a limit that is set for it: delete what is not needed, or ask the server's operator.",
      details,
    ),
  not_found: (details) =>
    new StoreNotFoundError(
      "There is no such project or store, or the token is for another project: name it with { project } or TACENDA_PROJECT.",
      details,
    ),
  record_not_found: unexpected("record_not_found"),
  secret_unregistered: unexpected("secret_unregistered"),
  request_timeout: overloaded("The server waited too long for the request."),
  already_exists: (details) => new AlreadyExistsError("The id is taken: choose another.", details),
  id_retired: (details) =>
    new IdRetiredError("The id belonged to something destroyed and is never used again: choose another.", details),
  secret_mismatch: unexpected("secret_mismatch"),
  key_in_use: (details) =>
    new KeyInUseError("The key is in use or not in the state that this needs: keys.status() says by what.", details),
  record_expired: unexpected("record_expired"),
  version_conflict: unexpected("version_conflict"),
  body_too_large: (details) => new ValueTooLargeError("The server refuses a body of this size.", details),
  unsupported_media_type: unexpected("unsupported_media_type"),
  precondition_required: unexpected("precondition_required"),
  rate_limited: (details) =>
    new RateLimitedError(
      "Too many requests, or wrong secrets, with this token. Try again after a while (`retryAfter`), or use the value cache.",
      details,
    ),
  internal: serverFault("The server failed."),
  record_damaged: serverFault("The stored record is damaged: restore it from a backup."),
  overloaded: overloaded("The server has more to do than it takes on, or its database is away; nothing was written."),
  key_provider_unavailable: (details) =>
    new KeyProviderUnavailableError("The server cannot reach its key provider and fails closed. Try later.", details),
  outcome_unknown: (details) =>
    new OutcomeUnknownError(
      "The server's database was lost in the middle of the write, which may or may not have happened. Read before you write again.",
      { ...details, retryable: true },
    ),
  storage_full: (details) =>
    new StorageFullError("The server's storage is full; nothing was written. Its operator has to make room.", details),
};

/** For options that only the server can judge. */
export function refusedOptions(answer: Answer, what: string): TacendaError {
  return errorBody(answer)?.code === "invalid_request"
    ? new ConfigurationError(`The server refuses ${what}: check the values.`, requestIdOf(errorBody(answer)?.requestId))
    : errorOf(answer);
}
