/** Why a database cannot be copied, in words for the person at the terminal; spec/envelope.md § Copying. */

/** The message says what to do and holds no password, no key and no value. */
export class CopyError extends Error {
  override name = "CopyError";
}
