/** Why a server cannot start, in words for the person who starts it; spec/http.md § Starting. */

/** The message says what to do and holds no secret. */
export class StartupError extends Error {
  override name = "StartupError";
}

/** What was given to the program is not valid. */
export class InvalidOptionError extends StartupError {
  override name = "InvalidOptionError";
}

/** The code that Node or SQLite gave an error, for instance `EACCES`; undefined when it has none. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}
