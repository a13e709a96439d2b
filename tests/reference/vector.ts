/** The form of the known answers of spec/vectors, as spec/vectors/README.md describes it. */

import { Refusal, type RefusalCode } from "./reference.ts";

/** One file of spec/vectors: `<type>/<name with hyphens>.json`. */
export interface Vector<Input = unknown, Expected = unknown> {
  type: string;
  name: string;
  input: Input;
  expected: Expected | { error: RefusalCode };
}

/** Text as it is, or any bytes as hex. */
export type TextOrHex = { text: string } | { hex: string };

export function fromHex(hex: string): Buffer {
  return Buffer.from(hex, "hex");
}

export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

export function toBytes(value: TextOrHex): Buffer {
  return "text" in value ? Buffer.from(value.text) : fromHex(value.hex);
}

/** What `compute` gives, or what a vector expects where the specification refuses. */
export function outcome<Expected>(compute: () => Expected): Expected | { error: RefusalCode } {
  try {
    return compute();
  } catch (error) {
    if (error instanceof Refusal) return { error: error.code };
    throw error;
  }
}
