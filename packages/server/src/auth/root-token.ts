/** Where the root token comes from: the environment, the first start, or a reset; spec/http.md § Root token. */

import { InvalidOptionError, StartupError } from "../startup-error.js";
import type { Directory } from "../storage/directory.js";
import { digestToken, newToken } from "./tokens.js";

const SETTING = "root_token_sha256";
const MIN_CHARACTERS = 32;

/** Gets a token's text, and resolves when it is kept where a crash of this machine does not lose it. */
export type KeepToken = (token: string) => Promise<void>;

/** Where its digest is kept. */
export type RootTokenSettings = Pick<Directory, "getSetting" | "replaceSetting">;

/** SHA-256 of the root token that the environment gives. @throws {InvalidOptionError} when it is too short or cannot be sent in a header. */
export function givenRootDigest(token: string): Uint8Array {
  if (token.length >= MIN_CHARACTERS && /^[\x21-\x7e]+$/.test(token)) return digestToken(token);
  throw new InvalidOptionError(
    `TACENDA_ROOT_TOKEN must be at least ${MIN_CHARACTERS} characters of visible ASCII, without spaces.`,
  );
}

/** SHA-256 of the database's root token, null when it has none. @throws {StorageError} */
export async function storedRootDigest(settings: Pick<RootTokenSettings, "getSetting">): Promise<Uint8Array | null> {
  const known = await settings.getSetting(SETTING);
  return known === null ? null : Buffer.from(known, "hex");
}

/**
 * Makes the database's root token on the first start, and does nothing on later ones. Its digest is stored only when `keep` has
 * resolved, so that no crash can lose the only copy. False when a reset came in between: then the token that `keep` got never
 * holds.
 */
export async function ensureRootToken(settings: RootTokenSettings, keep: KeepToken): Promise<boolean> {
  if ((await settings.getSetting(SETTING)) !== null) return true;
  return await makeRootToken(settings, null, keep);
}

/**
 * Puts a new root token in the place of the database's. Until this resolves the old one holds, or the new one, which `keep` has.
 * @throws {StartupError} when another reset came in between: then the token that `keep` got never holds.
 * @throws {StorageError} with outcome "unknown" when it cannot be told which of the two holds.
 */
export async function replaceRootToken(settings: RootTokenSettings, keep: KeepToken): Promise<void> {
  if (await makeRootToken(settings, await settings.getSetting(SETTING), keep)) return;
  throw new StartupError(
    "Another reset of the root token came in between, and its token holds. This one's never will: reset it again if you need to.",
  );
}

async function makeRootToken(settings: RootTokenSettings, before: string | null, keep: KeepToken): Promise<boolean> {
  const token = newToken();
  await keep(token.text);
  return await settings.replaceSetting(SETTING, before, Buffer.from(token.digest).toString("hex"));
}
