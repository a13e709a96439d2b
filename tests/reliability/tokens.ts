/** Made-up tokens that look like real ones; spec/http.md § Tokens. */

import { createHash, randomBytes } from "node:crypto";

import { RANDOM_LENGTH, TOKEN_ID_LENGTH, TOKEN_PREFIX, checksumText, randomBase62 } from "@tacenda/protocol";

/** A token with a good checksum that no server has made: it takes a look-up to know that. */
export function garbageToken(): string {
  const body = TOKEN_PREFIX + randomBase62(TOKEN_ID_LENGTH + RANDOM_LENGTH, randomBytes);
  return body + checksumText(createHash("sha256").update(body).digest());
}
