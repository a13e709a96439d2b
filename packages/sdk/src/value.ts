/** Checks what callers give, and makes the payload that will be sealed; spec/record.md § Limits, § Sealing. */

import { MAX_KEY_BYTES, MAX_METADATA_BYTES, MAX_VALUE_BYTES, RecordState } from "@tacenda/protocol";

import { utf8, utf8OrNull } from "./crypto/bytes.js";
import { type Payload, ValueKind } from "./crypto/payload.js";
import { type ExpiryOptions, expiryOf } from "./duration.js";
import { ConfigurationError, InvalidKeyError, InvalidValueError, ValueTooLargeError } from "./errors.js";

/** The names that environments know: capitals, digits and underscores. */
const ENVIRONMENT_NAME = /^[A-Z][A-Z0-9_]{0,254}$/;

/** A rule for keys that a store's client adds to the format's: `env`, or a pattern that a key must match. */
export type NamingRule = "env" | RegExp;

/** The pattern of a rule. Without the flags by which a RegExp remembers where it stopped. @throws {ConfigurationError} */
export function namingPattern(rule: NamingRule | undefined): RegExp | undefined {
  if (rule === undefined) return undefined;
  if (rule === "env") return ENVIRONMENT_NAME;
  if (rule instanceof RegExp) return new RegExp(rule.source, rule.flags.replace(/[gy]/g, ""));
  throw new ConfigurationError('`naming` must be "env" or a RegExp.');
}

/** @throws {InvalidKeyError} unless `key` is well-formed text of 1 to 1,024 bytes as UTF-8, and matches `naming`. */
export function checkKey(key: string, naming?: RegExp): string {
  const bytes = typeof key === "string" ? utf8OrNull(key) : null;
  if (bytes === null) throw new InvalidKeyError("A key must be well-formed text.");
  if (bytes.length < 1 || bytes.length > MAX_KEY_BYTES) {
    throw new InvalidKeyError(`A key must have 1 to ${MAX_KEY_BYTES} bytes of UTF-8; this one has ${bytes.length}.`);
  }
  if (naming === undefined || naming.test(key)) return key;
  throw new InvalidKeyError(`The key does not match the store's naming rule ${String(naming)}.`);
}

/** What will be sealed, but for its time and version. */
export interface Draft {
  state: RecordState;
  /** Milliseconds since the epoch; 0 for never. */
  expiresAt: number;
  payload: Omit<Payload, "sealedAt">;
}

/** What comes with a value. */
export interface ValueOptions extends ExpiryOptions {
  /** A JSON object, at most 8,192 bytes, encrypted with the value. The next version replaces it. */
  metadata?: Record<string, unknown> | undefined;
}

/** A deletion. It holds nothing. */
export const TOMBSTONE: Draft = {
  state: RecordState.tombstone,
  expiresAt: 0,
  payload: { kind: ValueKind.text, metadata: new Uint8Array(0), value: new Uint8Array(0) },
};

/** A mark that the key now lives under another secret. It holds nothing. */
export const MOVED: Draft = { ...TOMBSTONE, state: RecordState.moved };

/**
 * A value to be sealed. Bytes are copied, so that the caller may go on using them.
 *
 * @throws {InvalidValueError} @throws {ValueTooLargeError} @throws {ConfigurationError} for the expiry.
 */
export function draftOf(value: string | Uint8Array, options: ValueOptions): Draft {
  return { state: RecordState.value, expiresAt: expiryOf(options), payload: payloadOf(value, options.metadata) };
}

/** @throws {InvalidValueError} @throws {ValueTooLargeError} */
export function payloadOf(
  value: string | Uint8Array,
  metadata: Record<string, unknown> | undefined,
): Omit<Payload, "sealedAt"> {
  return { ...valueBytes(value), metadata: metadata === undefined ? new Uint8Array(0) : metadataBytes(metadata) };
}

function valueBytes(value: unknown): { kind: ValueKind; value: Uint8Array } {
  const text = typeof value === "string";
  const bytes = text ? utf8OrNull(value) : value instanceof Uint8Array ? Uint8Array.from(value) : null;
  if (bytes === null) {
    throw new InvalidValueError(
      "A value must be well-formed text or a Uint8Array. Turn objects into text with JSON.stringify.",
    );
  }
  if (bytes.length > MAX_VALUE_BYTES) {
    throw new ValueTooLargeError(`A value may have ${MAX_VALUE_BYTES} bytes; this one has ${bytes.length}.`);
  }
  return { kind: text ? ValueKind.text : ValueKind.bytes, value: bytes };
}

function metadataBytes(metadata: unknown): Uint8Array {
  const object = typeof metadata === "object" && metadata !== null && !Array.isArray(metadata);
  const json = object ? jsonOrUndefined(metadata) : undefined;
  if (json?.startsWith("{") !== true) throw new InvalidValueError("Metadata must be an object that JSON can hold.");
  const bytes = utf8(json);
  if (bytes.length <= MAX_METADATA_BYTES) return bytes;
  throw new ValueTooLargeError(`Metadata may have ${MAX_METADATA_BYTES} bytes as JSON; this has ${bytes.length}.`);
}

function jsonOrUndefined(value: object): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined;
  }
}
