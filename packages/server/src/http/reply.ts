/** What a handler answers, before the headers that every answer has; spec/http.md § Answers. */

/** A status, headers and a body. */
export interface Reply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Null and absent: an empty body. */
  readonly body?: Uint8Array | string | null;
}

/** A JSON answer. */
export function jsonReply(status: number, value: unknown, headers?: Readonly<Record<string, string>>): Reply {
  return { status, headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(value) };
}

/** The answer to a deletion. */
export const NO_CONTENT: Reply = { status: 204 };

/** Headers of every answer. */
export const ALWAYS_HEADERS = { "cache-control": "no-store", "x-content-type-options": "nosniff" } as const;
