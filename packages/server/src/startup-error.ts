/** Why a server cannot start, in words for the person who starts it. */

/** The message says what to do and holds no secret. */
export class StartupError extends Error {
  override name = "StartupError";
}

/** What was given to the program is not valid. */
export class InvalidOptionError extends StartupError {
  override name = "InvalidOptionError";
}
