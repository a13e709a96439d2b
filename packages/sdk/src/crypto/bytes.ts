/** Byte strings as the specification writes them; spec/record.md § Notation. */

export type Bytes = Uint8Array<ArrayBuffer>;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function u8(value: number): Bytes {
  return Uint8Array.of(value);
}

export function u32(value: number): Bytes {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** `value` is a safe integer, 0 … 2^53−1. */
export function u64(value: number): Bytes {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value));
  return bytes;
}

export function concat(...parts: readonly Uint8Array[]): Bytes {
  const bytes = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}

/** Length-prefixed: without the prefix, ("ab", "c") and ("a", "bc") would be the same bytes. */
export function lp(bytes: Uint8Array): Bytes {
  return concat(u32(bytes.length), bytes);
}

/** UTF-8 of a text known to be well-formed. */
export function utf8(text: string): Bytes {
  return encoder.encode(text);
}

/**
 * UTF-8 of a caller's text, or null when it has a lone surrogate: TextEncoder would turn every one of them into U+FFFD,
 * and so different texts into the same bytes. Nothing is normalized or trimmed.
 */
export function utf8OrNull(text: string): Bytes | null {
  return text.isWellFormed() ? encoder.encode(text) : null;
}

/** Text of UTF-8 bytes, or null when they are not valid UTF-8. */
export function textOrNull(bytes: Uint8Array): string | null {
  try {
    return decoder.decode(bytes);
  } catch {
    return null;
  }
}

/** Compares in time that depends on the length only. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let index = 0; index < a.length; index++) difference |= (a[index] ?? 0) ^ (b[index] ?? 0);
  return difference === 0;
}
