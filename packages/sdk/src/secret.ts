/** The caller's secret: checked once, hashed at once, and never shown again; spec/record.md § Secrets. */

import { SECRET_PREFIX, TOKEN_PREFIX, toBase64url } from "@tacenda/protocol";

import { utf8OrNull } from "./crypto/bytes.js";
import { hashSecret } from "./crypto/derive.js";
import { isWholeGeneratedSecret } from "./crypto/generated.js";
import { ConfigurationError, WeakSecretError } from "./errors.js";

/** What only the caller knows: text of at least 32 characters, or at least 32 bytes. */
export type SecretInput = string | Uint8Array;

/**
 * A store's new secret, and those it replaces: values under those are still found, and moved when they are. To move and to write
 * takes the permissions read, write and delete; a token that may only read finds values where they are.
 */
export interface ChangingSecret {
  current: SecretInput;
  previous: readonly SecretInput[];
}

/** Secrets in use, checked. */
export interface Secrets {
  current: Secret;
  previous: readonly Secret[];
}

const MIN_LENGTH = 32;
const MIN_DISTINCT = 8;
/** OWASP's figure for PBKDF2-HMAC-SHA-256 over passphrases. */
const MIN_WEAK_ITERATIONS = 600_000;

/** What the SDK keeps of a secret: its hash. Turned into text, JSON or an inspection it shows nothing. */
export class Secret {
  readonly #hash: Uint8Array;
  /** Tells cached keys of different secrets apart; the secret's hash, never shown. */
  readonly #cacheId: string;

  private constructor(hash: Uint8Array) {
    this.#hash = hash;
    this.#cacheId = toBase64url(hash);
  }

  /**
   * @throws {WeakSecretError} when the secret is too short, of too few distinct characters, or a mistyped `tcs_` secret.
   * @throws {ConfigurationError} when it is neither text nor bytes.
   */
  static from(secret: SecretInput, options: { iterations: number; allowWeak: boolean }): Secret {
    const bytes = typeof secret === "string" ? utf8OrNull(secret) : Uint8Array.from(bytesOf(secret));
    if (bytes === null)
      throw new WeakSecretError("The secret is not well-formed text (a lone surrogate): check where it comes from.");
    checkStrength(secret, options);
    return new Secret(hashSecret(bytes));
  }

  /** The 32 bytes that stand for the secret in every derivation. */
  static hashOf(secret: Secret): Uint8Array {
    return secret.#hash;
  }

  static cacheIdOf(secret: Secret): string {
    return secret.#cacheId;
  }

  toString(): string {
    return "[redacted secret]";
  }

  toJSON(): string {
    return this.toString();
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }
}

function bytesOf(secret: unknown): Uint8Array {
  if (secret instanceof Uint8Array) return secret;
  throw new ConfigurationError("The secret must be text or a Uint8Array.");
}

function checkStrength(secret: SecretInput, { iterations, allowWeak }: { iterations: number; allowWeak: boolean }) {
  if (typeof secret === "string" && secret.startsWith(SECRET_PREFIX) && !isWholeGeneratedSecret(secret)) {
    throw new WeakSecretError(
      "The secret begins with tcs_ but is not a whole generated secret: check that it was copied completely.",
    );
  }
  if (typeof secret === "string" && secret.startsWith(TOKEN_PREFIX)) {
    throw new WeakSecretError("The secret is a token (tct_), which the server knows. The secret must be another text.");
  }
  const characters = Array.from<string | number>(secret);
  if (characters.length >= MIN_LENGTH && new Set(characters).size >= MIN_DISTINCT) return;
  if (characters.length > 0 && allowWeak && iterations >= MIN_WEAK_ITERATIONS) return;
  throw new WeakSecretError(
    `The secret must have at least ${MIN_LENGTH} characters (or bytes), ${MIN_DISTINCT} of them distinct. Make one with ` +
      "generateSecret(). A passphrase needs dangerouslyAllowWeakSecret: true and " +
      `iterations: ${MIN_WEAK_ITERATIONS} or more.`,
  );
}
