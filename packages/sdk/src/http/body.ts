/** Reads an answer's body with a cap: a hostile server may send without end, and ky does not bound the reading. */

import { orAborted } from "../concurrency.js";

/**
 * The whole body, or null when it is longer than `maxBytes` (after any decompression).
 * Rejects with the signal's reason when it aborts, whatever the stream does.
 */
export async function readBody(response: Response, maxBytes: number, signal: AbortSignal): Promise<Uint8Array | null> {
  if (response.body === null) return new Uint8Array(0);
  const reader = response.body.getReader() as ReadableStreamDefaultReader<Uint8Array>;
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for (;;) {
      const { done, value } = await orAborted(reader.read(), signal);
      if (done) break;
      length += value.length;
      if (length > maxBytes) return null;
      chunks.push(value);
    }
  } finally {
    // Ends the transfer when we stop early; after the end it does nothing.
    reader.cancel().catch(() => undefined);
  }
  const [only] = chunks;
  if (chunks.length === 1 && only !== undefined) return only;
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  return bytes;
}
