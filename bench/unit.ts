/** The unit of client work: one native PBKDF2-HMAC-SHA-256 of 100,000 iterations. */

import { timed } from "./measure.ts";

const ITERATIONS = 100_000;
const PASSWORD = await crypto.subtle.importKey("raw", new Uint8Array(32).fill(7), "PBKDF2", false, ["deriveBits"]);

/** Milliseconds that one unit takes now. */
export function timeUnit(): Promise<number> {
  const salt = crypto.getRandomValues(new Uint8Array(32));
  return timed(() =>
    crypto.subtle.deriveBits({ name: "PBKDF2", hash: "SHA-256", salt, iterations: ITERATIONS }, PASSWORD, 256),
  );
}
