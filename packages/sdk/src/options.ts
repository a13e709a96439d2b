/** Options as callers give them, and the one precedence for all: call, store, client, environment. */

import { DEFAULT_PROJECT } from "@tacenda/protocol";

import { checkId, checkInteger } from "./checks.js";
import { MAX_ITERATIONS, MIN_ITERATIONS, type Stretch } from "./crypto/derive.js";
import { ConfigurationError, WeakSecretError } from "./errors.js";
import { checkToken, checkUrl } from "./http/endpoint.js";
import type { CallOptions } from "./http/record-api.js";
import type { TransportOptions } from "./http/transport.js";
import type { VersionMemory } from "./marks.js";
import { type ChangingSecret, Secret, type SecretInput, type Secrets } from "./secret.js";
import type { NamingRule } from "./value.js";
import type { CacheOptions } from "./value-cache.js";

/** How to reach a server; what `Tacenda` and `TacendaAdmin` have in common. */
export interface ConnectionOptions {
  /** The server's URL; else TACENDA_URL. */
  url?: string | undefined;
  /** What authenticates the caller to the server; else TACENDA_TOKEN. */
  token?: string | undefined;
  /** The project; else TACENDA_PROJECT, else "default". */
  project?: string | undefined;
  /** Milliseconds for one exchange with the server, repetitions included. Default 10,000. */
  timeout?: number | undefined;
  /** How often a request is sent at most when the server cannot be reached or is overloaded. Default 3. */
  maxAttempts?: number | undefined;
  /** The `fetch` to use. */
  fetch?: typeof globalThis.fetch | undefined;
  /** Allows http:// beyond loopback: the token is then readable on the network. */
  allowInsecureUrl?: boolean | undefined;
}

/** Options of `new Tacenda`. */
export interface TacendaOptions extends ConnectionOptions, SecretOptions {
  /** Derived keys kept in memory, so that only the first call for a key pays a derivation. Default 10,000; 0 for none. */
  derivedKeyCacheSize?: number | undefined;
  /** Derivations that run at once. Default 3, for the runtime's few threads also serve files and name look-ups. */
  maxConcurrentDerivations?: number | undefined;
  /** Where to remember the versions seen, against a server that goes back. In memory by default, the last 100,000 keys. */
  versionMemory?: VersionMemory | undefined;
}

/** The secret, and what deriving from it costs. */
export interface SecretOptions {
  /**
   * What only the caller knows, 32 characters or bytes at least: see `generateSecret`. Else TACENDA_SECRET. While the secret of
   * a store is being changed, the new one with those it replaces.
   */
  secret?: SecretInput | ChangingSecret | undefined;
  /** PBKDF2 iterations, 100,000 (the default) to 10,000,000. All clients of a store need the same. */
  iterations?: number | undefined;
  /**
   * `key`, the default: each key costs one derivation. `store`: one derivation per process and store; a further key then
   * costs microseconds, and guessing a key costs an attacker no more than that. All clients of a store need the same.
   */
  stretch?: Stretch | undefined;
  /** Allows a secret that can be guessed, with at least 600,000 iterations. For passphrases, when nothing else is possible. */
  dangerouslyAllowWeakSecret?: boolean | undefined;
}

/** Options of `getStore`. */
export interface StoreOptions extends SecretOptions {
  /** Another memory for versions seen than the client's. */
  versionMemory?: VersionMemory | undefined;
  /** Keeps values in memory for a while. Without it every read asks the server. */
  cache?: CacheOptions | undefined;
  /** Keys that do not match are refused: `"env"` for `^[A-Z][A-Z0-9_]{0,254}$`, or a pattern of your own. */
  naming?: NamingRule | undefined;
}

/** Options of every call on a store. */
export interface StoreCallOptions extends CallOptions {
  /** The secret for this call only. */
  secret?: SecretInput | ChangingSecret | undefined;
}

interface Environment {
  TACENDA_URL?: string;
  TACENDA_TOKEN?: string;
  TACENDA_PROJECT?: string;
  TACENDA_SECRET?: string;
}

/** A variable of the process's environment, where the runtime has one and lets us read it; empty counts as unset. */
export function environment(name: keyof Environment): string | undefined {
  try {
    const { process } = globalThis as { process?: { env?: Environment } };
    const value = process?.env?.[name];
    return value === "" ? undefined : value;
  } catch {
    return undefined;
  }
}

/** @throws {ConfigurationError} */
export function transportOptions(options: ConnectionOptions): TransportOptions {
  return {
    url: checkUrl(options.url ?? environment("TACENDA_URL"), options.allowInsecureUrl ?? false),
    token: checkToken(options.token ?? environment("TACENDA_TOKEN")),
    timeout: checkInteger("timeout", options.timeout ?? 10_000, 1, 2 ** 31 - 1),
    maxAttempts: checkInteger("maxAttempts", options.maxAttempts ?? 3, 1, 100),
    fetch: options.fetch,
  };
}

/** @throws {ConfigurationError} */
export function projectOf(options: ConnectionOptions): string {
  return checkId("project", options.project ?? environment("TACENDA_PROJECT") ?? DEFAULT_PROJECT);
}

/** The cost of a derivation, checked. @throws {WeakSecretError} @throws {ConfigurationError} */
export function stretchOf(options: SecretOptions): { iterations: number; stretch: Stretch } {
  const { iterations = MIN_ITERATIONS, stretch = "key" } = options;
  if (!Number.isSafeInteger(iterations) || iterations < MIN_ITERATIONS || iterations > MAX_ITERATIONS) {
    throw new WeakSecretError(
      `\`iterations\` must be an integer from ${MIN_ITERATIONS} (fewer make the secret easy to guess) to ${MAX_ITERATIONS}.`,
    );
  }
  if (["key", "store"].includes(stretch)) return { iterations, stretch };
  throw new ConfigurationError('`stretch` must be "key" or "store".');
}

/** The first secret given, checked; undefined when none is. */
export function secretsOf(
  inputs: readonly (SecretInput | ChangingSecret | undefined)[],
  iterations: number,
  options: SecretOptions,
): Secrets | undefined {
  const input = inputs.find((candidate) => candidate !== undefined);
  if (input === undefined) return undefined;
  const strength = { iterations, allowWeak: options.dangerouslyAllowWeakSecret ?? false };
  if (typeof input === "string" || input instanceof Uint8Array)
    return { current: Secret.from(input, strength), previous: [] };
  const { current, previous = [] } = input as Partial<ChangingSecret>;
  if (current === undefined || !Array.isArray(previous)) {
    throw new ConfigurationError("`secret` must be text, a Uint8Array, or { current, previous: [...] }.");
  }
  return {
    current: Secret.from(current, strength),
    previous: previous.map((secret: SecretInput) => Secret.from(secret, strength)),
  };
}
