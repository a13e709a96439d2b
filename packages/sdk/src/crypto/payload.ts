/** What is inside a seal: kind, time, metadata, value, and padding that hides their length; spec/record.md § Sealing, § Padding. */

import { MAX_METADATA_BYTES, MAX_TIME, MAX_VALUE_BYTES, PAYLOAD_OVERHEAD_BYTES, paddedLength } from "@tacenda/protocol";

import { type Bytes, lp, textOrNull } from "./bytes.js";

/** What a value's bytes are: a text's UTF-8, or just bytes. */
export const ValueKind = { text: 0, bytes: 1 } as const;
export type ValueKind = (typeof ValueKind)[keyof typeof ValueKind];

export interface Payload {
  kind: ValueKind;
  /** Milliseconds since the epoch, by the sealing client's clock. */
  sealedAt: number;
  /** UTF-8 of a JSON object, at most 8,192 bytes; empty for none. */
  metadata: Uint8Array;
  /** At most 1,048,576 bytes. */
  value: Uint8Array;
}

/** A payload that was read back, with what had to be decoded to check it. */
export interface DecodedPayload extends Payload {
  /** The value as text, or null when its kind is bytes. */
  text: string | null;
  /** What the metadata bytes hold; empty for none. */
  metadataObject: Record<string, unknown>;
}

/** The padded payload. The caller has checked the sizes. */
export function encodePayload({ kind, sealedAt, metadata, value }: Payload): Bytes {
  const bytes = new Uint8Array(paddedLength(PAYLOAD_OVERHEAD_BYTES + metadata.length + value.length));
  const view = new DataView(bytes.buffer);
  view.setUint8(0, kind);
  view.setBigUint64(1, BigInt(sealedAt));
  bytes.set(lp(metadata), 9);
  const valueOffset = 13 + metadata.length;
  view.setUint32(valueOffset, value.length);
  bytes.set(value, valueOffset + 4);
  return bytes;
}

/** Reads a padded payload back; null when it is not exactly what `encodePayload` makes of some payload. */
export function decodePayload(bytes: Uint8Array): DecodedPayload | null {
  if (bytes.length < PAYLOAD_OVERHEAD_BYTES) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const kind = view.getUint8(0);
  const sealedAt = view.getBigUint64(1);
  const metadataLength = view.getUint32(9);
  const valueOffset = 13 + metadataLength;
  if (metadataLength > MAX_METADATA_BYTES || valueOffset + 4 > bytes.length) return null;
  const valueLength = view.getUint32(valueOffset);
  const end = valueOffset + 4 + valueLength;
  if (valueLength > MAX_VALUE_BYTES || end > bytes.length || bytes.length !== paddedLength(end)) return null;
  if (bytes.subarray(end).some((byte) => byte !== 0)) return null;
  if ((kind !== ValueKind.text && kind !== ValueKind.bytes) || sealedAt > BigInt(MAX_TIME)) return null;
  const metadata = bytes.subarray(13, valueOffset);
  const value = bytes.subarray(valueOffset + 4, end);
  const text = kind === ValueKind.text ? textOrNull(value) : null;
  if (kind === ValueKind.text && text === null) return null;
  const metadataObject = metadataLength === 0 ? {} : parseMetadata(metadata);
  if (metadataObject === null) return null;
  return { kind, sealedAt: Number(sealedAt), metadata, value, text, metadataObject };
}

/** The JSON object that metadata bytes hold, or null when they hold anything else. */
function parseMetadata(bytes: Uint8Array): Record<string, unknown> | null {
  const text = textOrNull(bytes);
  if (text === null) return null;
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)
      ? (parsed as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}
