/** JSON requests: administration, and who am I; spec/http.md § Projects, § Stores, § Tokens. */

import { ProtocolError } from "../errors.js";
import { errorBody, errorOf, parseJson, refusedOptions } from "./answer.js";
import type { CallOptions } from "./record-api.js";
import type { OutgoingRequest, Transport } from "./transport.js";

/** Lists may be long; a megabyte holds thousands of stores or tokens. */
const NOT_OURS = "The answer is not the JSON a Tacenda server gives: check `url`.";
const MAX_JSON_BYTES = 8_388_608;

export class JsonApi {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** The JSON object of a successful answer. Its fields are as the server says; the caller names their type. */
  async send<T extends object>(
    method: OutgoingRequest["method"],
    path: string,
    body: object | undefined,
    options: CallOptions,
  ): Promise<T> {
    const answer = await this.#transport.send({
      method,
      path,
      ...(body && { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
      maxBytes: MAX_JSON_BYTES,
      signal: options.signal,
      timeout: options.timeout,
    });
    if (answer.status === 204 && method === "DELETE") return {} as T;
    if (!SUCCESS.has(answer.status)) {
      throw errorBody(answer)?.code === "invalid_request" ? refusedOptions(answer, "the request") : errorOf(answer);
    }
    const value = parseJson(answer.bytes);
    if (isObject(value)) return value as T;
    throw new ProtocolError(NOT_OURS);
  }

  /** The list of objects under `field` of a successful answer. */
  async list<T extends object>(path: string, field: string, options: CallOptions): Promise<T[]> {
    const items = (await this.send<Record<string, unknown>>("GET", path, undefined, options))[field];
    if (Array.isArray(items) && items.every(isObject)) return items as T[];
    throw new ProtocolError(NOT_OURS);
  }
}

/** Done, made, begun. */
const SUCCESS: ReadonlySet<number> = new Set([200, 201, 202]);

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
