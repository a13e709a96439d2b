/**
 * The only user of ky. Sends one request, if need be several times, and gives back whatever the server answered in the
 * end; spec/http.md § Transport. No error of ky's or fetch's leaves this file: they carry the token.
 */

import ky, { type KyInstance } from "ky";

import { delay, orAborted } from "../concurrency.js";
import { ProtocolError, RequestTimeoutError, ServerUnreachableError } from "../errors.js";
import { type Answer, errorBody } from "./answer.js";
import { readBody } from "./body.js";

export interface TransportOptions {
  /** Checked, without a trailing slash. */
  url: string;
  /** Checked. */
  token: string;
  /** Milliseconds for a whole request, its repetitions and the reading of the answer included. */
  timeout: number;
  /** How often a request is sent at most. */
  maxAttempts: number;
  fetch?: typeof globalThis.fetch | undefined;
}

export interface OutgoingRequest {
  method: "GET" | "PUT" | "POST" | "PATCH" | "DELETE";
  /** Below the server's URL, without a leading slash. */
  path: string;
  headers?: Record<string, string>;
  body?: Uint8Array<ArrayBuffer> | string;
  /** Longest body of a successful answer, in bytes. */
  maxBytes: number;
  signal?: AbortSignal | undefined;
  /** Milliseconds; overrides the transport's. */
  timeout?: number | undefined;
}

const MAX_ERROR_BYTES = 16_384;
/** After any other status the answer is final. */
const RETRYABLE_STATUSES = [408, 429, 502, 503, 504];
const FIRST_BACKOFF = 100;
const LONGEST_BACKOFF = 5_000;

/** Failures of which a runtime tells that the request was never sent. */
const NEVER_SENT = /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ConnectionRefused)$/;

/** Why the inner signal aborted, when it was not the caller. */
const TIMED_OUT = Symbol("timed out");

/** One attempt that brought no answer. */
interface NoAnswer {
  neverSent: boolean;
  /** Short name of the network's error, for instance ECONNREFUSED. */
  reason: string | undefined;
}

export class Transport {
  readonly #ky: KyInstance;
  readonly #timeout: number;
  readonly #maxAttempts: number;

  constructor({ url, token, timeout, maxAttempts, fetch }: TransportOptions) {
    this.#timeout = timeout;
    this.#maxAttempts = maxAttempts;
    this.#ky = ky.create({
      prefix: url,
      headers: { authorization: `Bearer ${token}` },
      redirect: "manual",
      retry: 0,
      timeout: false,
      throwHttpErrors: false,
      ...(fetch === undefined ? {} : { fetch }),
    });
  }

  /**
   * Sends the request until an answer is worth giving back. The same bytes are sent each time, so a write that is sent
   * again is either replayed or refused by the server, never made twice.
   *
   * @throws {ServerUnreachableError} @throws {RequestTimeoutError} @throws {ProtocolError}
   * @throws the signal's reason, when the caller aborts.
   */
  async send(request: OutgoingRequest): Promise<Answer> {
    request.signal?.throwIfAborted();
    const controller = new AbortController();
    const timeout = request.timeout ?? this.#timeout;
    const deadline = Date.now() + timeout;
    const timer = setTimeout(() => controller.abort(TIMED_OUT), timeout);
    const onAbort = () => controller.abort(request.signal?.reason);
    request.signal?.addEventListener("abort", onAbort, { once: true });
    try {
      return await this.#sendUntil(request, deadline, controller.signal);
    } catch (error) {
      if (error !== TIMED_OUT) throw error;
      throw new RequestTimeoutError(`No complete answer within ${timeout} ms. Try again, or raise \`timeout\`.`);
    } finally {
      clearTimeout(timer);
      request.signal?.removeEventListener("abort", onAbort);
    }
  }

  async #sendUntil(request: OutgoingRequest, deadline: number, signal: AbortSignal): Promise<Answer> {
    let resent = false;
    for (let attempt = 1; ; attempt++) {
      const outcome = await this.#attempt(request, signal);
      const answered = "status" in outcome;
      if (answered && !RETRYABLE_STATUSES.includes(outcome.status)) return { ...outcome, resent };
      const wait = (answered ? retryAfter(outcome) : undefined) ?? backoff(attempt);
      const unclear = !(answered ? refusedUnread(outcome) : outcome.neverSent);
      // A POST makes something new each time, so it is sent again only when it certainly made nothing.
      const final = attempt >= this.#maxAttempts || (unclear && request.method === "POST");
      if (final || Date.now() + wait >= deadline) {
        if (answered) return { ...outcome, resent };
        throw new ServerUnreachableError(
          `The server cannot be reached${outcome.reason === undefined ? "" : ` (${outcome.reason})`}: check \`url\`, ` +
            "that the server runs, and the network. A write may have happened if it was on its way.",
        );
      }
      resent ||= unclear;
      await delay(wait, signal);
    }
  }

  async #attempt(request: OutgoingRequest, signal: AbortSignal): Promise<Omit<Answer, "resent"> | NoAnswer> {
    try {
      const { method, path, headers, body } = request;
      const options = { method, signal, ...(headers && { headers }), ...(body !== undefined && { body }) };
      // A given `fetch` may ignore the signal, so the wait is ours to end.
      const response = await orAborted(this.#ky(path, options) as Promise<Response>, signal);
      const bytes = await readBody(response, response.ok ? request.maxBytes : MAX_ERROR_BYTES, signal);
      if (bytes === null) throw new ProtocolError("The answer is longer than any a Tacenda server gives: check `url`.");
      return { status: response.status, headers: response.headers, bytes };
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      if (signal.aborted) throw signal.reason;
      const reason = networkReason(error);
      return { neverSent: reason !== undefined && NEVER_SENT.test(reason), reason };
    }
  }
}

/** Milliseconds that the answer asks us to wait; undefined when it does not say. */
function retryAfter({ headers }: Omit<Answer, "resent">): number | undefined {
  const seconds = /^\d{1,6}$/.exec(headers.get("retry-after") ?? "")?.[0];
  return seconds === undefined ? undefined : Number(seconds) * 1000;
}

/** Full jitter, so that clients that failed together do not come back together. */
function backoff(attempt: number): number {
  return Math.random() * Math.min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** attempt);
}

/** Whether a Tacenda server says that it has not carried the request out. */
function refusedUnread(answer: Omit<Answer, "resent">): boolean {
  return errorBody({ ...answer, resent: false }) !== undefined;
}

/** The network's short name for what went wrong, from as deep as runtimes hide it; never a message. */
function networkReason(error: unknown): string | undefined {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 5; cause = cause.cause, depth++) {
    const code: unknown = (cause as { code?: unknown }).code;
    if (typeof code === "string" && /^[A-Za-z_]{3,40}$/.test(code)) return code;
  }
  return undefined;
}
