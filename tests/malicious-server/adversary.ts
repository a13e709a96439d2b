/**
 * A fully malicious server: the real one, and before it somebody who sees every exchange, keeps all of it, and answers as
 * they please. What it lacks is the secret. What clients must make of it is in spec/record.md § Opening, § Marks, § Writing.
 */

import { randomBytes } from "node:crypto";

import { encodeKeyHash } from "@tacenda/protocol";

/** An answer that can be given any number of times. */
export interface Snapshot {
  status: number;
  headers: Headers;
  bytes: Uint8Array<ArrayBuffer>;
}

/** What a client sent. */
export interface Sent {
  method: string;
  url: URL;
  headers: Headers;
  body: Uint8Array<ArrayBuffer>;
}

/** One request, and what the client was given for it. */
export interface Exchange extends Sent {
  /** `failed`: no answer came. `stream`: one without an end. */
  answer: Snapshot | "failed" | "stream";
}

/** What the adversary does with a request. Throws what `fetch` throws when the network breaks. */
export type Mutator = (sent: Sent, adversary: Adversary) => Promise<Snapshot | Response> | Snapshot | Response;

/** Requests for records are told apart from all others by this. */
const RECORDS_PATH = /\/records\/|\/batch$/;
/** The part of a path that names a record. */
const RECORD_PATH = /\/records\/[A-Za-z0-9_-]{43}(?=$|\/)/;

export class Adversary {
  /** What to do with the next requests for records; without one they are passed on. */
  mutate: ((count: number) => Mutator | undefined) | undefined;
  /** Sees each request for a record before anything is done with it. */
  onSent: ((sent: Sent) => void) | undefined;
  /** The exchanges about records since `begin`. */
  exchanges: Exchange[] = [];
  /** Every answer about records that the real server gave since `forget`, by method, path and query. */
  readonly heard = new Map<string, Snapshot[]>();
  /** Writes that were not carried out when they came, and still can be. */
  readonly held: Sent[] = [];
  /** The requests for another record of the real server that stand for those of the one in the path. */
  readonly #standIns = new Map<string, string>();
  /** What was written to each record of the real server, in order. */
  readonly #written = new Map<string, Sent[]>();
  #count = 0;

  /** What clients get for their `fetch`. */
  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    const request = new Request(input, init);
    if (!RECORDS_PATH.test(new URL(request.url).pathname)) return await globalThis.fetch(request);
    const body = new Uint8Array(await request.arrayBuffer());
    const sent: Sent = { method: request.method, url: new URL(request.url), headers: request.headers, body };
    const exchange: Exchange = { ...sent, answer: "failed" };
    this.exchanges.push(exchange);
    this.onSent?.(sent);
    const answer = await (this.mutate?.(this.#count++)?.(sent, this) ?? this.pass(sent));
    exchange.answer = answer instanceof Response ? "stream" : answer;
    return answer instanceof Response ? answer : responseOf(answer);
  };

  /** Begins a call of a client. */
  begin(mutate: Adversary["mutate"], onSent?: Adversary["onSent"]): void {
    this.mutate = mutate;
    this.onSent = onSent;
    this.exchanges = [];
    this.#count = 0;
  }

  /** Forgets what was heard, and lets the real server answer for itself again. */
  forget(): void {
    this.begin(undefined);
    this.heard.clear();
    this.held.length = 0;
    this.#standIns.clear();
    this.#written.clear();
  }

  /** Has the real server carry the request out. */
  async pass({ method, url, headers, body }: Sent): Promise<Snapshot> {
    const record = recordOf(url);
    const target = new URL(url);
    target.pathname = url.pathname.replace(record, this.#standIn(record));
    const response = await globalThis.fetch(target, {
      method,
      headers,
      ...(body.length > 0 && { body }),
      redirect: "manual",
    });
    const { status } = response;
    const answer = { status, headers: response.headers, bytes: new Uint8Array(await response.arrayBuffer()) };
    const question = `${method} ${url.pathname}${url.search}`;
    this.heard.set(question, [...(this.heard.get(question) ?? []), answer]);
    if (method === "PUT" && response.ok) {
      const writes = this.writesOf(url);
      // A replay is no second write.
      if (!writes.some((write) => Buffer.compare(write.body, body) === 0)) {
        this.#written.set(this.#standIn(record), [...writes, { method, url, headers, body }]);
      }
    }
    return answer;
  }

  /** What the real server has accepted for the record of a path, the oldest first. */
  writesOf(url: URL): readonly Sent[] {
    return this.#written.get(this.#standIn(recordOf(url))) ?? [];
  }

  /** All the records that the real server was asked about, as URLs. */
  recordsLike(url: URL): URL[] {
    const records = new Set([...this.heard.keys()].map((question) => recordOf(question)));
    return [...records].map((record) => new URL(record, url));
  }

  /**
   * Puts a record back to its first `count` writes, for good: another record of the real server, which gets those writes
   * again, stands for it from now on. So the real server keeps as many histories of a key as the adversary likes.
   */
  async rollBack(url: URL, count: number): Promise<void> {
    const writes = this.writesOf(url).slice(0, count);
    const record = recordOf(url);
    const sibling = record.replace(/[^/]*$/, encodeKeyHash(randomBytes(32)));
    for (const { headers, body } of writes) {
      await globalThis.fetch(new URL(sibling, url), { method: "PUT", headers, body });
    }
    this.#standIns.set(record, sibling);
    this.#written.set(sibling, writes);
  }

  #standIn(record: string): string {
    return this.#standIns.get(record) ?? record;
  }
}

/** The part of a path that names a record: `/v1/…/records/H`. */
export function recordOf(url: URL | string): string {
  const path = typeof url === "string" ? url.replace(/^\w+ /, "") : url.pathname;
  const end = RECORD_PATH.exec(path);
  return end === null ? path : path.slice(0, end.index + end[0].length);
}

/** As a `fetch` would give it. */
function responseOf({ status, headers, bytes }: Snapshot): Response {
  const given = new Headers(headers);
  given.delete("content-length");
  const bodiless = [101, 103, 204, 205, 304].includes(status) || bytes.length === 0;
  return new Response(bodiless ? null : bytes, { status, headers: given });
}
