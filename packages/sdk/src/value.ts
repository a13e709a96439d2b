/** Checks what callers give, and makes the payload that will be sealed; spec/record.md § Limits, § Sealing. */

import { MAX_KEY_BYTES, MAX_METADATA_BYTES, MAX_VALUE_BYTES } from "@tacenda/protocol";

import { utf8, utf8OrNull } from "./crypto/bytes.js";
import { type Payload, ValueKind } from "./crypto/payload.js";
import { InvalidKeyError, InvalidValueError, ValueTooLargeError } from "./errors.js";

/** @throws {InvalidKeyError} unless `key` is well-formed text of 1 to 1,024 bytes as UTF-8. */
export function checkKey(key: string): string {
  const bytes = typeof key === "string" ? utf8OrNull(key) : null;
  if (bytes === null) throw new InvalidKeyError("A key must be well-formed text.");
  if (bytes.length >= 1 && bytes.length <= MAX_KEY_BYTES) return key;
  throw new InvalidKeyError(`A key must have 1 to ${MAX_KEY_BYTES} bytes of UTF-8; this one has ${bytes.length}.`);
}

/**
 * The payload but for its time. Bytes are copied, so that the caller may go on using them.
 *
 * @throws {InvalidValueError} @throws {ValueTooLargeError}
 */
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
