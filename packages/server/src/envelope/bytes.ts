/** The byte encodings that every structure of the envelope is made of; spec/envelope.md § Notation. */

/** `u32(length) ‖ bytes`. Text is its UTF-8. */
export function lp(value: string | Uint8Array): Buffer {
  const bytes = typeof value === "string" ? Buffer.from(value, "utf8") : value;
  return Buffer.concat([u32(bytes.length), bytes]);
}

/** Four bytes, big-endian. @throws {RangeError} beyond 0 … 2^32−1. */
export function u32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Writes eight bytes, big-endian, at `offset`. `value` is an integer of 0 … 2^53−1; this is faster than a BigInt. */
export function writeU64(target: Buffer, value: number, offset: number): void {
  target.writeUInt32BE(Math.floor(value / 0x1_0000_0000), offset);
  target.writeUInt32BE(value % 0x1_0000_0000, offset + 4);
}

/** The same bytes as a Buffer, not copied. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
