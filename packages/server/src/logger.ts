/** What the server logs with, and what it may say of an error; spec/http.md § Logs. Pino has this shape. */

export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** Errors whose messages are written for the log and hold no value, name or parameter. */
const SAFE_MESSAGES = new Set([
  "DamagedRecordError",
  "KeyProviderError",
  "StaleKeyError",
  "StorageBusyError",
  "StorageError",
  "StorageFullError",
  "StoreGoneError",
  "WrapsRefusedError",
]);

/**
 * An error for the log: its name, code and stack frames. The message is left out unless it is known to hold nothing of
 * the request, because messages of foreign errors quote what they failed on (a URL, a parameter).
 */
export function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { name: typeof error };
  const frames = (error.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
  return {
    name: error.name,
    // Which way a key provider failed.
    ...("fault" in error && typeof error.fault === "string" && { fault: error.fault }),
    ...("code" in error && typeof error.code === "string" && { code: error.code }),
    ...(SAFE_MESSAGES.has(error.name) && { message: error.message }),
    stack: frames.join("\n"),
    ...(error.cause !== undefined && { cause: describeError(error.cause) }),
  };
}
