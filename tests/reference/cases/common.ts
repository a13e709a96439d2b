/** What the cases of the vectors share: fixed inputs, and the one derivation most of them use. */

import { answer, type PlaceInput, type VectorInput, type VectorType } from "../answers.ts";
import { derive, sha256 } from "../reference.ts";
import { toHex, type Vector } from "../vector.ts";

/** Text that is long and varied enough to be accepted as a secret. */
export const SECRET = "tcs-test-secret-0123456789abcdefghij";

export const DERIVATION = {
  project: "default",
  store: "user-tokens",
  secret: SECRET,
  key: "github:42",
  iterations: 100_000,
  stretch: "key",
} as const;

const derived = derive(DERIVATION);

/** Place of `github:42` in the store `user-tokens`, in the form of a vector's input. */
export const PLACE: PlaceInput = {
  project: DERIVATION.project,
  store: DERIVATION.store,
  keyHash: derived.keyHash.toString("base64url"),
  valueKey: toHex(derived.valueKey),
};

export const SEALED_AT = 1_790_000_000_000;

/** `length` fixed bytes that look random: SHA-256 of the label and a counter. Only vectors may use such salts. */
export function fixedBytes(label: string, length: number): Buffer {
  const blocks = Array.from({ length: Math.ceil(length / 32) }, (_, index) => sha256(`${label}/${index}`));
  return Buffer.concat(blocks).subarray(0, length);
}

export const SALT = toHex(fixedBytes("salt", 32));

/** A vector with what the reference expects of this input. */
export function vector<Type extends VectorType>(type: Type, name: string, input: VectorInput<Type>): Vector {
  return { type, name, input, expected: answer(type, input) };
}
