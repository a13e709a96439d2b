/** Bounded calls to a transit server, whose answers are not trusted; spec/envelope.md § Transit. */

import { z } from "zod";

import { KeyProviderError } from "../key-provider.js";

/** One call of Vault's HTTP API. */
export interface TransitRequest {
  method: "GET" | "POST";
  /** Below /v1/, for instance `transit/keys/tacenda`. */
  path: string;
  body?: Record<string, string | number>;
  /** False for what must not happen twice; everything else is sent once more when a connection breaks. */
  repeatable?: boolean;
  /** Bytes of the answer at most. */
  limit?: number;
}

/** The server answered 400, 403, 404 or 405. Its words are told apart, and shown only where no key went out. */
export class TransitRefusal extends Error {
  override name = "TransitRefusal";
  readonly status: number;
  readonly errors: readonly string[];
  constructor(status: number, errors: readonly string[]) {
    super(`HTTP ${status}`);
    this.status = status;
    this.errors = errors;
  }

  says(...texts: readonly string[]): boolean {
    return this.errors.some((error) => texts.some((text) => error.includes(text)));
  }
}

const TIME_LIMIT = 3000;
const DEFAULT_LIMIT = 64 * 1024;
/** Of a connection that broke, for instance because the server has closed it while it was idle. */
const BROKEN: readonly string[] = ["ECONNRESET", "EPIPE", "UND_ERR_SOCKET"];
const REFUSALS: readonly number[] = [400, 403, 404, 405];
const errorsSchema = z.object({ errors: z.array(z.string().max(4096)).max(100) });

export class TransitHttp {
  readonly #origin: string;
  readonly #namespace: string | null;
  readonly #closing = new AbortController();

  constructor(origin: string, namespace: string | null) {
    this.#origin = origin;
    this.#namespace = namespace;
  }

  /**
   * The JSON of the answer, null when it has none. Nothing of what is thrown holds the token or what was sent.
   * @throws {TransitRefusal} on 400, 403, 404 and 405.
   * @throws {KeyProviderError} `unavailable` on everything else that is not an answer, within 3 s.
   */
  async send(token: string, request: TransitRequest): Promise<unknown> {
    const signal = AbortSignal.any([AbortSignal.timeout(TIME_LIMIT), this.#closing.signal]);
    const body = request.body && new TextEncoder().encode(JSON.stringify(request.body));
    try {
      return await this.#exchange(token, request, body, signal).catch(async (error: unknown) => {
        if (request.repeatable === false || !BROKEN.includes(networkCode(error))) throw error;
        return await this.#exchange(token, request, body, signal);
      });
    } catch (error) {
      if (error instanceof KeyProviderError || error instanceof TransitRefusal) throw error;
      throw this.#unreachable(error);
    } finally {
      body?.fill(0);
    }
  }

  /** Ends what is under way. */
  close(): void {
    this.#closing.abort();
  }

  async #exchange(
    token: string,
    request: TransitRequest,
    body: Uint8Array<ArrayBuffer> | undefined,
    signal: AbortSignal,
  ) {
    const headers: Record<string, string> = { "X-Vault-Token": token, "X-Vault-Request": "true" };
    if (this.#namespace !== null) headers["X-Vault-Namespace"] = this.#namespace;
    if (body) headers["Content-Type"] = "application/json";
    const response = await fetch(`${this.#origin}/v1/${request.path}`, {
      method: request.method,
      headers,
      body: body ?? null,
      // A redirect would take the token along to wherever it points.
      redirect: "manual",
      signal,
    });
    const { status } = response;
    if (status === 204) return null;
    if (status !== 200 && !REFUSALS.includes(status)) {
      void response.body?.cancel().catch(() => undefined);
      throw this.#unavailable(status);
    }
    const json = parseJson(await this.#read(response, request.limit ?? DEFAULT_LIMIT));
    if (status === 200) {
      if (json === undefined) throw this.malformed();
      return json;
    }
    throw new TransitRefusal(status, errorsSchema.safeParse(json).data?.errors ?? []);
  }

  /** The body as far as `limit`, with what we hold of its bytes overwritten in the end. */
  async #read(response: Response, limit: number): Promise<string> {
    const chunks: Uint8Array[] = [];
    let length = 0;
    const reader = response.body?.getReader();
    try {
      for (let part = await reader?.read(); part?.value; part = await reader?.read()) {
        chunks.push(part.value);
        length += part.value.length;
        if (length > limit) throw this.#fault(`answered more than ${limit} bytes, which no transit engine does here`);
      }
      const whole = Buffer.concat(chunks);
      const text = whole.toString("utf8");
      whole.fill(0);
      return text;
    } finally {
      for (const chunk of chunks) chunk.fill(0);
      // Of no effect on a body that was read to its end.
      void reader?.cancel().catch(() => undefined);
    }
  }

  #unavailable(status: number): KeyProviderError {
    if (status >= 300 && status < 400) {
      return this.#fault(
        `answered with a redirect (HTTP ${status}), which is not followed, for it would take the token elsewhere. ` +
          "A standby that does not forward does so: name the active node, or the load balancer before it, in the URI",
      );
    }
    if (status === 503) return this.#fault("is sealed, or a standby without an active node (HTTP 503): unseal it");
    if (status === 429) return this.#fault("answers that there are too many calls (HTTP 429): look at its rate limits");
    return this.#fault(`answered HTTP ${status}: see its log`);
  }

  /** An answer that is none of this API. */
  malformed(): KeyProviderError {
    return this.#fault(
      "answered what no transit engine answers. Check that the URI names Vault or OpenBao and no proxy's page",
    );
  }

  #unreachable(error: unknown): KeyProviderError {
    if (this.#closing.signal.aborted) return this.#fault("was not waited for: this server stops");
    if (error instanceof Error && error.name === "TimeoutError") {
      return this.#fault(
        `did not answer within ${TIME_LIMIT / 1000} s: check that it runs and can be reached from here`,
      );
    }
    const code = networkCode(error);
    if (/CERT|SSL|TLS|SIGNED|LEAF/.test(code)) {
      return this.#fault(
        `has no certificate that is trusted here (${code}): set NODE_EXTRA_CA_CERTS to the file of its authority`,
      );
    }
    return this.#fault(`cannot be reached (${code}): check that it runs, and the host and port in the URI`);
  }

  #fault(what: string): KeyProviderError {
    return new KeyProviderError("unavailable", `The transit server ${this.#origin} ${what}.`);
  }
}

/** The parser's error quotes the text, which may hold a key: undefined instead. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What the system called the failure, for instance `ECONNREFUSED`. Nothing else of fetch's errors is passed on. */
function networkCode(error: unknown): string {
  for (let one = error; one instanceof Error; one = one.cause) {
    if ("code" in one && typeof one.code === "string" && /^\w{1,60}$/.test(one.code)) return one.code;
  }
  return "no code";
}
