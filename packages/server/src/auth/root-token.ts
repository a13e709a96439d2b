/** Where the root token comes from: the environment, or the first start; spec/http.md § Root token. */

import type { Directory } from "../storage/directory.js";
import { InvalidOptionError, StartupError } from "../startup-error.js";
import { digestToken, newToken } from "./tokens.js";

const SETTING = "root_token_sha256";
const MIN_CHARACTERS = 32;

/**
 * SHA-256 of the root token. `given` overrides what the database knows, for as long as it is given. Without it the
 * token of the first start holds; on the first start one is made and handed to `announce`, which must have kept it when
 * it resolves: only then is its digest stored, so that no crash can lose the only copy.
 *
 * @throws {InvalidOptionError} when `given` is too short or cannot be sent in a header.
 * @throws {StartupError} when another server has made one in the meantime.
 */
export async function rootTokenDigest(
  directory: Directory,
  given: string | undefined,
  announce: (token: string) => Promise<void>,
): Promise<Uint8Array> {
  if (given !== undefined) return digestToken(checkRootToken(given));
  const known = await directory.getSetting(SETTING);
  if (known !== null) return Buffer.from(known, "hex");
  const token = newToken();
  await announce(token.text);
  if (await directory.replaceSetting(SETTING, null, Buffer.from(token.digest).toString("hex"))) return token.digest;
  throw new StartupError(
    "While this server was held up, another one made the root token. The one that was made here is of no use: forget it, delete the " +
      "file root-token if it was written to that, and start again.",
  );
}

function checkRootToken(token: string): string {
  if (token.length >= MIN_CHARACTERS && /^[\x21-\x7e]+$/.test(token)) return token;
  throw new InvalidOptionError(
    `TACENDA_ROOT_TOKEN must be at least ${MIN_CHARACTERS} characters of visible ASCII, without spaces.`,
  );
}
