/** What PostgreSQL's errors mean to who writes, by their SQLSTATE codes. What drivers throw is kept out of sight: it quotes values. */

import { StorageBusyError, StorageError, StorageFullError } from "./record-store.js";
import { CLOSED } from "./restoration.js";
import type { Retry } from "./sql-engine.js";
import { CreationRaceError } from "./sql-record-writer.js";

/** COMMIT was sent, and nobody can say whether it was carried out everywhere it should be. */
export class UnconfirmedCommitError extends Error {
  override name = "UnconfirmedCommitError";
  constructor(cause?: unknown) {
    super("A commit was not confirmed.", { cause });
  }
}

/** The connection was lost before COMMIT was sent: nothing of a transaction that was on it will be committed. */
export class ConnectionLostError extends Error {
  override name = "ConnectionLostError";
  constructor(cause?: unknown) {
    super("The connection was lost.", { cause });
  }
}

/**
 * Serialization failure, deadlock, lock not available. In a serializable transaction a violated constraint as well: it is how
 * a conflict shows when the other transaction came first by a hair.
 */
const CONFLICTS = new Set(["40001", "40P01", "55P03", "23505", "23503"]);
/**
 * Codes that only come with the end of a session, or stand for one: a connection failed (it may be one behind a pooler), the
 * server stops or ends sessions, or has too many. The severity does not tell: it is in the server's language.
 */
const ENDS_SESSION = /^(?:08|57P|25P03|25P04|53300)/;
/** The server is not (any more) the one that takes writes. */
const READ_ONLY = "25006";
/** Statements that were prepared on this connection are of no use any more: the tables were changed, or a pooler was in between. */
const STALE_STATEMENTS = new Set(["26000", "0A000"]);
const FULL = new Set(["53100", "54000"]);
/** What a closed database says to whoever writes (postgres-closing.ts). */
export const CLOSED_STATE = "TC001";

/** SQLSTATE of what the server said; undefined when it was the connection that failed. */
export function sqlState(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error) || typeof error.code !== "string") return undefined;
  return "severity" in error && /^[0-9A-Z]{5}$/.test(error.code) ? error.code : undefined;
}

/** Whether it is the driver's, of a query that got no answer within its time. */
export function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.message === "Query read timeout";
}

/** Whether the connection is of no use after what a query on it threw. */
export function breaksConnection(error: unknown): boolean {
  const state = sqlState(error);
  if (state === undefined) return true;
  return ENDS_SESSION.test(state) || state === READ_ONLY || STALE_STATEMENTS.has(state);
}

export function retryOf(error: unknown, committing: boolean): Retry | null {
  if (error instanceof CreationRaceError) return "conflict";
  // No connection was free, or none was to be had: the primary may be about to be replaced.
  if (error instanceof ConnectionLostError || error instanceof StorageBusyError) return "away";
  const state = sqlState(error);
  // What is not the server's, and no lost connection, is a mistake of ours, and would be one again.
  if (state === undefined || mayHaveCommitted(error, committing)) return null;
  if (CONFLICTS.has(state)) return "conflict";
  return breaksConnection(error) ? "away" : null;
}

export function toStorageError(error: unknown, committing: boolean): StorageError {
  if (error instanceof StorageError) return error;
  const cause = withoutValues(error);
  if (mayHaveCommitted(error, committing)) {
    return new StorageError("The connection to the database was lost at a commit. Whether it was made is not known.", {
      cause,
      outcome: "unknown",
    });
  }
  const state = sqlState(error) ?? "";
  if (FULL.has(state)) {
    return new StorageFullError("There is no room for this write. Free or add disk space, then try again.", { cause });
  }
  if (state === CLOSED_STATE) return new StorageBusyError(CLOSED, { cause });
  if (state === "57014") return new StorageBusyError("The database took too long. Try again.", { cause });
  if (state.startsWith("23") || retryOf(error, committing) === null) {
    return new StorageError("The database failed. The server's log has the cause.", { cause });
  }
  return new StorageBusyError("The database is busy or away. Nothing was written. Try again.", { cause });
}

/** When COMMIT fails because the server says so, nothing was written; when the connection fails, nobody knows. */
function mayHaveCommitted(error: unknown, committing: boolean): boolean {
  return error instanceof UnconfirmedCommitError || (committing && ENDS_SESSION.test(sqlState(error) ?? ""));
}

/** Name and code of what was thrown, and where it came from. Its message and details quote rows, parameters and users. */
export function withoutValues(error: unknown): Error {
  const bare = new Error("The database driver failed.");
  bare.name = error instanceof Error && error.name !== "error" ? error.name : "PostgresError";
  if (!(error instanceof Error)) return bare;
  const inner = error.cause === undefined ? undefined : withoutValues(error.cause);
  if (inner !== undefined) bare.cause = inner;
  const frames = (error.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
  bare.stack = [`${bare.name}: ${bare.message}`, ...frames].join("\n");
  return "code" in error && typeof error.code === "string" ? Object.assign(bare, { code: error.code }) : bare;
}
