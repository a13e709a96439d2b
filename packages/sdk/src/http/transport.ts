/**
 * The only user of ky. Sends one request, if need be several times, and gives back whatever the server answered in the
 * end; spec/http.md § Transport. No error of ky's or fetch's leaves this file: they carry the token.
 */

import ky, { type KyInstance } from "ky";

import { delay, orAborted } from "../concurrency.js";
import { ProtocolError, RequestTimeoutError, ServerUnreachableError } from "../errors.js";
import { type Answer, errorBody, retryAfterOf } from "./answer.js";
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
  /** Whether it may be sent again after no clear answer. All but POST may, by what they mean. */
  mayRepeat?: boolean;
  /** Whether it is in no doubt without an answer. Only GET is, by what it means. */
  changesNothing?: boolean;
  /** Longest body of a successful answer, in bytes. */
  maxBytes: number;
  /** Longest body of an error, in bytes; 16,384 by default. A longer one counts as empty. */
  maxErrorBytes?: number;
  signal?: AbortSignal | undefined;
  /** Milliseconds; overrides the transport's. */
  timeout?: number | undefined;
}

const MAX_ERROR_BYTES = 16_384;
/** After any other status the answer is final. */
const RETRYABLE_STATUSES = [408, 429, 502, 503, 504];
const FIRST_BACKOFF = 100;
const LONGEST_BACKOFF = 5_000;

/** Failures that happen only before a request is sent. (EHOSTUNREACH and the like also happen on open connections.) */
const NEVER_SENT = /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|ConnectionRefused)$/;

/** Names of what is wrong with a certificate. The handshake fails, so nothing was sent, and will fail again. */
const UNTRUSTED =
  /^(UNABLE_TO_(VERIFY_LEAF_SIGNATURE|GET_ISSUER_CERT_LOCALLY)|SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|ERR_TLS_CERT_ALTNAME_INVALID|CERT_HAS_EXPIRED)$/;
/** A server closed the connection and said nothing, as one that speaks TLS alone does when it is sent plain HTTP. */
const CLOSED = /^(UND_ERR_SOCKET|ECONNRESET)$/;

/** Why the inner signal aborted, when it was not the caller. */
const TIMED_OUT = Symbol("timed out");

/** A request on its way, over all its attempts. */
interface Sending {
  /** Milliseconds since the epoch. */
  deadline: number;
  signal: AbortSignal;
  /** An earlier attempt got no clear answer, and may have been carried out. */
  doubtful: boolean;
}

/** One attempt that brought no answer. */
interface NoAnswer {
  neverSent: boolean;
  untrusted: boolean;
  /** Short name of the network's error, for instance ECONNREFUSED. */
  reason: string | undefined;
}

export class Transport {
  readonly #ky: KyInstance;
  readonly #plain: boolean;
  readonly #timeout: number;
  readonly #maxAttempts: number;

  constructor({ url, token, timeout, maxAttempts, fetch }: TransportOptions) {
    this.#plain = url.startsWith("http:");
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
    const timer = setTimeout(() => controller.abort(TIMED_OUT), timeout);
    const onAbort = () => controller.abort(request.signal?.reason);
    request.signal?.addEventListener("abort", onAbort, { once: true });
    const sending: Sending = { deadline: Date.now() + timeout, signal: controller.signal, doubtful: false };
    try {
      return await this.#sendUntil(request, sending);
    } catch (error) {
      if (error !== TIMED_OUT) throw error;
      throw new RequestTimeoutError(`No complete answer within ${timeout} ms. Try again, or raise \`timeout\`.`, {
        mayHaveHappened: mayChange(request),
      });
    } finally {
      clearTimeout(timer);
      request.signal?.removeEventListener("abort", onAbort);
    }
  }

  async #sendUntil(request: OutgoingRequest, sending: Sending): Promise<Answer> {
    for (let attempt = 1; ; attempt++) {
      const outcome = await this.#attempt(request, sending.signal);
      const answered = "status" in outcome;
      if (answered && !RETRYABLE_STATUSES.includes(outcome.status)) return { ...outcome, resent: sending.doubtful };
      // Both: clients that were told the same time do not come back together either.
      const wait = backoff(attempt) + ((answered ? retryAfterOf(outcome) : undefined) ?? 0);
      const doubtful = !(answered ? refusedUnread(outcome) : outcome.neverSent);
      // What makes something new each time is sent again only when it certainly made nothing.
      const repeatable = request.mayRepeat ?? request.method !== "POST";
      const hopeless = (doubtful && !repeatable) || (!answered && outcome.untrusted);
      const final = attempt >= this.#maxAttempts || hopeless;
      if (final || Date.now() + wait >= sending.deadline) {
        if (answered) return { ...outcome, resent: sending.doubtful };
        throw unreachable(outcome, this.#plain, mayChange(request) && (doubtful || sending.doubtful));
      }
      sending.doubtful ||= doubtful;
      await delay(wait, sending.signal);
    }
  }

  async #attempt(request: OutgoingRequest, signal: AbortSignal): Promise<Omit<Answer, "resent"> | NoAnswer> {
    try {
      const { method, path, headers, body } = request;
      const options = { method, signal, ...(headers && { headers }), ...(body !== undefined && { body }) };
      // A given `fetch` may ignore the signal, so the wait is ours to end.
      const response = await orAborted(this.#ky(path, options) as Promise<Response>, signal);
      const { status, headers: answered, ok } = response;
      const bytes = await readBody(
        response,
        ok ? request.maxBytes : (request.maxErrorBytes ?? MAX_ERROR_BYTES),
        signal,
      );
      if (bytes !== null) return { status, headers: answered, bytes };
      // A proxy's long error page is an answer with nothing in it.
      if (!ok) return { status, headers: answered, bytes: new Uint8Array(0) };
      throw new ProtocolError("The answer is longer than any a Tacenda server gives: check `url`.");
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      if (signal.aborted) throw signal.reason;
      const reason = networkReason(error);
      const untrusted = UNTRUSTED.test(reason ?? "");
      return { neverSent: untrusted || NEVER_SENT.test(reason ?? ""), untrusted, reason };
    }
  }
}

function mayChange({ method, changesNothing = method === "GET" }: OutgoingRequest): boolean {
  return !changesNothing;
}

function unreachable(
  { reason, untrusted }: NoAnswer,
  plain: boolean,
  mayHaveHappened: boolean,
): ServerUnreachableError {
  const named = reason === undefined ? "" : ` (${reason})`;
  const what = untrusted
    ? `The server's certificate is not trusted${named}: on Node, set NODE_EXTRA_CA_CERTS to the authority's file; the name in \`url\` must be in the certificate.`
    : `The server cannot be reached${named}: check \`url\`, that the server runs, and the network.`;
  const hint = plain && CLOSED.test(reason ?? "") ? " If it serves HTTPS, write https://." : "";
  return new ServerUnreachableError(
    what + hint + (mayHaveHappened ? " The write may have happened all the same." : ""),
    { mayHaveHappened, retryable: !untrusted },
  );
}

/** Full jitter, so that clients that failed together do not come back together. */
function backoff(attempt: number): number {
  return Math.random() * Math.min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** attempt);
}

/** Whether a Tacenda server says that it has not carried the request out. */
function refusedUnread(answer: Omit<Answer, "resent">): boolean {
  const code = errorBody({ ...answer, resent: false })?.code;
  return code !== undefined && code !== "outcome_unknown";
}

/** The network's short name for what went wrong, from as deep as runtimes hide it; never a message. */
function networkReason(error: unknown): string | undefined {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 5; cause = cause.cause, depth++) {
    const code: unknown = (cause as { code?: unknown }).code;
    if (typeof code === "string" && /^[A-Za-z_]{3,40}$/.test(code)) return code;
  }
  return undefined;
}
