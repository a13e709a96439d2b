/** The few assertions of the suite, in plain JavaScript: no test framework runs alike in all runtimes. */

import { TacendaError, type TacendaErrorCode } from "@tacenda/sdk";

/** @throws {Error} unless both are the same as JSON; bytes and dates are told apart from arrays and text. */
export function equal(actual: unknown, expected: unknown): void {
  const [a, b] = [shown(actual), shown(expected)];
  if (a !== b) throw new Error(`expected ${shortened(b)}, got ${shortened(a)}`);
}

/** @throws {Error} unless `condition`. */
export function ensure(condition: boolean, otherwise: string): asserts condition {
  if (!condition) throw new Error(otherwise);
}

/** The error that `work` rejects with, which must be the SDK's and of this kind. */
export async function failing(code: TacendaErrorCode, work: () => unknown): Promise<TacendaError> {
  const error = await thrownBy(work);
  ensure(error instanceof TacendaError, `expected the error "${code}", got ${String(error)}`);
  ensure(TacendaError.is(error, code), `expected the error "${code}", got "${error.code}": ${error.message}`);
  return error;
}

/** Whatever `work` throws or rejects with. @throws {Error} when it does not. */
export async function thrownBy(work: () => unknown): Promise<unknown> {
  let result: unknown;
  try {
    result = await work();
  } catch (error) {
    return error;
  }
  throw new Error(`expected an error, got ${shortened(shown(result))}`);
}

/** Waits this many milliseconds. */
export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Byte i is i modulo 251, so that a shift by any power of two shows. */
export function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => index % 251);
}

function shown(value: unknown): string {
  return value === undefined ? "undefined" : JSON.stringify(value, replacer);
}

function replacer(this: unknown, key: string, value: unknown): unknown {
  // JSON.stringify has already called toJSON on `value`: what it was is still in the holder.
  const original = (this as Record<string, unknown>)[key];
  if (original instanceof Uint8Array) return `bytes ${Array.from(original).join(" ")}`;
  if (original instanceof Date) return `date ${original.getTime()}`;
  return value;
}

function shortened(text: string): string {
  return text.length <= 200 ? text : `${text.slice(0, 200)}… (${text.length} characters)`;
}
