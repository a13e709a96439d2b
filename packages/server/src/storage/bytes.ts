/** Drivers give bytes as a Buffer, whose `slice` and `toJSON` are not those of the Uint8Array that the interfaces promise. */

/** The same bytes, not copied, as a plain Uint8Array. */
export function plainBytes(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
