/** The texts of tokens and generated secrets; spec/http.md § Tokens, spec/record.md § Generated secrets. */

/** Digits, upper case, lower case: one double-click selects the whole. */
export const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

export const TOKEN_PREFIX = "tct_";
export const SECRET_PREFIX = "tcs_";
/** Characters of a token's public id. */
export const TOKEN_ID_LENGTH = 12;
/** Uniformly random base-62 characters that hold 256 bits. */
export const RANDOM_LENGTH = 43;
/** Characters of the checksum that ends both. */
export const CHECKSUM_LENGTH = 6;

const TOKEN_PATTERN = new RegExp(
  `^${TOKEN_PREFIX}([0-9A-Za-z]{${TOKEN_ID_LENGTH}})[0-9A-Za-z]{${RANDOM_LENGTH + CHECKSUM_LENGTH}}$`,
);
const SECRET_PATTERN = new RegExp(`^${SECRET_PREFIX}[0-9A-Za-z]{${RANDOM_LENGTH + CHECKSUM_LENGTH}}$`);

/** A token's id, or null when the text does not have the form of a token. */
export function tokenId(token: string): string | null {
  return TOKEN_PATTERN.exec(token)?.[1] ?? null;
}

/** Whether the text has the form of a generated secret. */
export function hasSecretForm(secret: string): boolean {
  return SECRET_PATTERN.test(secret);
}

/** The text before the checksum, and the checksum. */
export function splitChecksum(text: string): [body: string, checksum: string] {
  return [text.slice(0, -CHECKSUM_LENGTH), text.slice(-CHECKSUM_LENGTH)];
}

/** Checksum of a body whose SHA-256 is `digest`: its first four bytes, big-endian, as six base-62 digits. */
export function checksumText(digest: Uint8Array): string {
  let number = new DataView(digest.buffer, digest.byteOffset, 4).getUint32(0);
  let text = "";
  for (let index = 0; index < CHECKSUM_LENGTH; index++) {
    text = BASE62.charAt(number % 62) + text;
    number = Math.floor(number / 62);
  }
  return text;
}

/**
 * `length` uniformly random base-62 characters made of `randomBytes`. Bytes of 248 and more are thrown away, for 248 is
 * the largest multiple of 62 that a byte can hold.
 */
export function randomBase62(length: number, randomBytes: (length: number) => Uint8Array): string {
  let text = "";
  while (text.length < length) {
    for (const byte of randomBytes(length)) {
      if (byte < 248 && text.length < length) text += BASE62.charAt(byte % 62);
    }
  }
  return text;
}
