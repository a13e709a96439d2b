/** Sizes both sides enforce; spec/record.md § Limits and spec/http.md § Limits. All lengths are bytes. */

/** Longest logical key, as UTF-8. */
export const MAX_KEY_BYTES = 1_024;
/** Longest value. */
export const MAX_VALUE_BYTES = 1_048_576;
/** Longest metadata, as UTF-8 JSON. */
export const MAX_METADATA_BYTES = 8_192;
/** Shortest padded payload. */
const MIN_PADDED_BYTES = 256;
/** kind, sealedAt, and the two length prefixes of a payload. */
export const PAYLOAD_OVERHEAD_BYTES = 1 + 8 + 4 + 4;
/** The plain start of every record: format, suite, state, expiresAt, salt, commitment. */
export const HEAD_BYTES = 75;
/** Poly1305 tag at the end of a record. */
export const TAG_BYTES = 16;

/** Versions and times (milliseconds since the epoch) are integers up to 2^53−1. */
export const MAX_VERSION = Number.MAX_SAFE_INTEGER;
export const MAX_TIME = Number.MAX_SAFE_INTEGER;

/** Most body bytes of a JSON request to an administration route. */
export const MAX_JSON_BODY_BYTES = 65_536;
/** Most operations of one batch. */
export const MAX_BATCH_OPERATIONS = 256;
/** Most user values of one batch: moving one to another secret takes two operations. */
export const MAX_BATCH_VALUES = 100;
/** Most bytes of a batch's body, and of its answer's. */
export const MAX_BATCH_BYTES = 8_388_608;

/** A secret check, as a client derives it. */
export const SECRET_CHECK_BYTES = 32;
/** Versions kept per key unless the store says otherwise. */
export const DEFAULT_MAX_VERSIONS = 10;
/** Largest `maxVersions` a store may have. */
export const MAX_MAX_VERSIONS = 1_000;

/**
 * Length to which a payload of `length` bytes is padded: 256, and above that its Padmé length.
 * Implements spec/record.md § Padding.
 */
export function paddedLength(length: number): number {
  if (length <= MIN_PADDED_BYTES) return MIN_PADDED_BYTES;
  const exponent = Math.floor(Math.log2(length));
  const significant = Math.floor(Math.log2(exponent)) + 1;
  const unit = 2 ** (exponent - significant);
  return Math.ceil(length / unit) * unit;
}

/** Shortest and longest sealed record a server accepts. */
export const MIN_RECORD_BYTES = HEAD_BYTES + MIN_PADDED_BYTES + TAG_BYTES;
export const MAX_RECORD_BYTES =
  HEAD_BYTES + paddedLength(PAYLOAD_OVERHEAD_BYTES + MAX_METADATA_BYTES + MAX_VALUE_BYTES) + TAG_BYTES;
