/** What a malicious server can do with one request, by name. `n` picks among the variants; what clients must make of it is in spec/record.md § Marks. */

import { randomBytes } from "node:crypto";

import { HEAD_BYTES, MAX_VERSION, toBase64url, versionTag } from "@tacenda/protocol";

import { type Mutator, type Sent, type Snapshot, recordOf } from "./adversary.js";

const utf8 = (text: string) => new Uint8Array(Buffer.from(text));

/** An answer with a JSON body. */
export function json(status: number, body: unknown, headers: Record<string, string> = {}): Snapshot {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  return { status, headers: new Headers({ "content-type": "application/json", ...headers }), bytes: utf8(text) };
}

/** An error in Tacenda's form. */
export function error(status: number, code: string, more: object = {}): Snapshot {
  return json(status, { error: { code, message: "", requestId: crypto.randomUUID(), ...more } });
}

/** The answer with other bytes, status or headers. */
export function altered(answer: Snapshot, change: { bytes?: Uint8Array; headers?: Record<string, string> }): Snapshot {
  const headers = new Headers(answer.headers);
  for (const [name, value] of Object.entries(change.headers ?? {})) headers.set(name, value);
  return { ...answer, headers, bytes: Uint8Array.from(change.bytes ?? answer.bytes) };
}

/** A version and the head that goes with it, as errors tell them. */
export function current(version: unknown, record: Uint8Array): object {
  return { current: { version, head: toBase64url(record.subarray(0, HEAD_BYTES)) } };
}

/** The acknowledgement of a write. */
export function acknowledged(version: number): Snapshot {
  const headers = new Headers({ etag: versionTag(version) });
  return { status: version === 1 ? 201 : 200, headers, bytes: new Uint8Array(0) };
}

/** The version as which a PUT is sealed. */
export function versionSealed({ headers }: Sent): number {
  return Number(/^"(\d+)"$/.exec(headers.get("if-match") ?? "")?.[1] ?? 0) + 1;
}

/** What `fetch` throws when a connection breaks. Its message is hostile too. */
export function broken(sent: Sent): TypeError {
  return new TypeError(`fetch failed for ${sent.headers.get("authorization") ?? ""}`);
}

/** A body that has no end before `limit` bytes; `pulled` counts what was read of it. */
export function endless(limit: number, count: { pulled: number }): Response {
  const chunk = randomBytes(65_536);
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (count.pulled >= limit) controller.close();
      else controller.enqueue(chunk);
      count.pulled += chunk.length;
    },
  });
  return new Response(body, { status: 200, headers: { etag: '"1"' } });
}

/** An answer whose body never comes. */
export function stalled(): Response {
  return new Response(new ReadableStream({}), { status: 200, headers: { etag: '"1"' } });
}

/** A head or record that nobody sealed. */
export function made(state: number, expiresAt: number, length = HEAD_BYTES): Uint8Array<ArrayBuffer> {
  const record = new Uint8Array(randomBytes(length));
  record.set([1, 1, state]);
  new DataView(record.buffer).setBigUint64(3, BigInt(expiresAt));
  return record;
}

/** The regions of a record, by their first byte; the last is the tag, counted from the end. */
export const REGIONS = {
  format: 0,
  suite: 1,
  state: 2,
  expiry: 10,
  salt: 11,
  "end of salt": 42,
  commitment: 43,
  "end of commitment": 74,
  ciphertext: 75,
  "hidden padding": 300,
  tag: -16,
  "end of tag": -1,
} as const;

export const REGION_NAMES = Object.keys(REGIONS) as (keyof typeof REGIONS)[];

/** The bytes with one bit of one region turned over. */
export function flipped(bytes: Uint8Array, region: keyof typeof REGIONS): Uint8Array<ArrayBuffer> {
  const changed = Uint8Array.from(bytes);
  const offset = REGIONS[region];
  const index = offset < 0 ? changed.length + offset : offset;
  if (index >= 0 && index < changed.length) changed[index] = (changed[index] ?? 0) ^ 1;
  return changed;
}

function pick<T>(list: readonly T[], n: number): T | undefined {
  return list[n % list.length];
}

const BAD_CURRENT: readonly unknown[] = [
  "1",
  [],
  5,
  true,
  { version: "1", head: "AA" },
  { version: 1.5, head: "" },
  { version: -1, head: [] },
  { version: 1e300, head: null },
  { __proto__: { version: 1 } },
  { version: { valueOf: 1 }, head: { toString: 1 } },
];
const BAD_BODIES = [
  "",
  "null",
  "[]",
  "5",
  '"x"',
  "{",
  '{"error":null}',
  '{"error":{"code":5}}',
  "\ufeff{}",
  "[".repeat(9_999),
];
const BAD_TAGS = ['"0"', "1", 'W/"1"', '"01"', '"1", "2"', '"-1"', '""', '"9007199254740992"', "x"];
const HOSTILE_HEADERS: readonly Record<string, string>[] = [
  { "tacenda-iterations": "1", "tacenda-suite": "0", "tacenda-stretch": "none" },
  { "tacenda-created-at": "9999999999999999999", "tacenda-attributes": "__proto__" },
  { "content-encoding": "gzip", "transfer-encoding": "chunked" },
  { location: "http://127.0.0.1:1/", refresh: "0" },
  { "set-cookie": "a=b", "content-type": "text/html", age: "99999999" },
];

/** Makes the mutator of a name for a number. */
type Maker = (n: number) => Mutator;

export const MUTATORS = {
  "drop before": () => (sent) => {
    throw broken(sent);
  },
  "drop after": () => async (sent, adversary) => {
    await adversary.pass(sent);
    throw broken(sent);
  },
  "carry out later": () => (sent, adversary) => {
    if (sent.method === "PUT") adversary.held.push(sent);
    throw broken(sent);
  },
  "proxy error after": (n) => async (sent, adversary) => {
    await adversary.pass(sent);
    return json(pick([502, 503, 504], n) ?? 502, "<html>");
  },
  refuse: (n) => () =>
    pick(
      [
        json(500, "oops"),
        error(500, "internal"),
        error(503, "overloaded"),
        error(429, "rate_limited"),
        error(401, "unauthorized"),
        error(403, "permission_denied"),
        error(403, "record_inactive"),
        error(403, "record_protected"),
        error(404, "not_found"),
        error(507, "storage_full"),
        error(200, "internal"),
        json(418, "{}"),
      ],
      n,
    ) ?? json(500, ""),
  "replay an older answer": (n) => (sent, adversary) => {
    const answers = adversary.heard.get(`${sent.method} ${sent.url.pathname}${sent.url.search}`) ?? [];
    return pick(answers, n) ?? adversary.pass(sent);
  },
  "replay another request's answer": (n) => (sent, adversary) =>
    pick([...adversary.heard.values()].flat(), n) ?? adversary.pass(sent),
  "answer of another record": (n) => async (sent, adversary) => {
    const other = pick(adversary.recordsLike(sent.url), n) ?? sent.url;
    const url = new URL(sent.url);
    url.pathname = url.pathname.replace(recordOf(url), recordOf(other));
    return await adversary.pass({ ...sent, url });
  },
  "an older version": (n) => async (sent, adversary) => {
    if (sent.method !== "GET") return await adversary.pass(sent);
    const url = new URL(sent.url);
    url.search = `?version=${1 + (n % 6)}`;
    return await adversary.pass({ ...sent, url });
  },
  "roll the key back": (n) => async (sent, adversary) => {
    await adversary.rollBack(sent.url, n % 4);
    return await adversary.pass(sent);
  },
  "roll the store back": (n) => async (sent, adversary) => {
    for (const url of adversary.recordsLike(sent.url)) await adversary.rollBack(url, n % 4);
    return await adversary.pass(sent);
  },
  relabel: (n) => async (sent, adversary) =>
    altered(await adversary.pass(sent), { headers: { etag: versionTag(pick([1, 2, 3, 4, MAX_VERSION], n) ?? 1) } }),
  "bad tag": (n) => async (sent, adversary) =>
    altered(await adversary.pass(sent), { headers: { etag: pick(BAD_TAGS, n) ?? "" } }),
  "flip a byte": (n) => async (sent, adversary) => {
    const answer = await adversary.pass(sent);
    return altered(answer, { bytes: flipped(answer.bytes, pick(REGION_NAMES, n) ?? "salt") });
  },
  truncate: (n) => async (sent, adversary) => {
    const answer = await adversary.pass(sent);
    const length = pick([0, 1, 74, 75, 91, 346, answer.bytes.length - 1], n) ?? 0;
    return altered(answer, { bytes: answer.bytes.subarray(0, Math.max(0, length)) });
  },
  extend: (n) => async (sent, adversary) => {
    const answer = await adversary.pass(sent);
    return altered(answer, { bytes: Buffer.concat([answer.bytes, Buffer.alloc(1 + (n % 20))]) });
  },
  plaintext: (n) => () => ({
    status: 200,
    headers: new Headers({ etag: versionTag(1 + (n % 5)), "content-type": "text/plain" }),
    bytes: utf8(pick(["the server's value", "x".repeat(347), "\u0001\u0001".padEnd(400, "v")], n) ?? ""),
  }),
  "made-up record": (n) => () => ({
    status: 200,
    headers: new Headers({ etag: versionTag(1 + (n % 5)) }),
    bytes: Uint8Array.from(made(n % 3, 0, 347)),
  }),
  absent: () => () => error(404, "record_not_found"),
  "no conflict but none current": () => () => error(412, "version_conflict", { current: null }),
  "refuse with a kept head": (n) => (sent, adversary) => forgedRefusal(sent, adversary.writesOf(sent.url), n, 0),
  "refuse with a relabelled head": (n) => (sent, adversary) => forgedRefusal(sent, adversary.writesOf(sent.url), n, 1),
  "refuse with this very write": () => (sent) =>
    error(412, "version_conflict", current(versionSealed(sent), sent.body)),
  "refuse with a made-up head": (n) => (sent) =>
    sent.method === "GET"
      ? error(410, "record_expired", current(1 + (n % 5), made(n % 3, 1)))
      : error(412, "version_conflict", current(pick([1 + (n % 5), MAX_VERSION - 1], n), made(n % 3, n % 2))),
  "not modified": (n) => () => ({
    status: 304,
    headers: new Headers({ etag: versionTag(1 + (n % 5)) }),
    bytes: new Uint8Array(0),
  }),
  "acknowledge and forget": () => (sent) => acknowledged(versionSealed(sent)),
  "acknowledge another version": (n) => async (sent, adversary) => {
    if (n % 2 === 0) await adversary.pass(sent);
    return acknowledged(versionSealed(sent) + (pick([-1, 1, 5], n) ?? 1));
  },
  redirect: (n) => () => ({
    status: pick([301, 302, 303, 307, 308, 300], n) ?? 302,
    headers: new Headers({ location: "http://127.0.0.1:1/" }),
    bytes: new Uint8Array(0),
  }),
  "wrong types": (n) => (sent) =>
    sent.method === "GET"
      ? error(410, "record_expired", { current: pick(BAD_CURRENT, n) })
      : error(412, "version_conflict", { current: pick(BAD_CURRENT, n) }),
  "wrong bodies": (n) => (sent) =>
    json(pick([200, 404, 410, 412], n) ?? 200, pick(BAD_BODIES, n) ?? "", {
      etag: versionTag(sent.method === "GET" ? 1 : versionSealed(sent)),
    }),
  "hostile headers": (n) => async (sent, adversary) =>
    altered(await adversary.pass(sent), { headers: pick(HOSTILE_HEADERS, n) ?? {} }),
  "wait for an hour": () => () => altered(error(503, "overloaded"), { headers: { "retry-after": "3600" } }),
  "never answer": () => () => new Promise<never>(() => undefined),
  "endless body": () => () => endless(33_554_432, { pulled: 0 }),
  "body that never comes": () => stalled,
} satisfies Record<string, Maker>;

/** Refuses a request with an authentic head of the record, under its own version or another. */
function forgedRefusal(sent: Sent, writes: readonly Sent[], n: number, shift: number): Snapshot {
  const write = pick(writes, n);
  if (write === undefined) return error(404, "record_not_found");
  const details = current(versionSealed(write) + shift, write.body);
  return sent.method === "GET" ? error(410, "record_expired", details) : error(412, "version_conflict", details);
}

export type MutatorName = keyof typeof MUTATORS;
export const MUTATOR_NAMES = Object.keys(MUTATORS) as MutatorName[];
/** These cost a client its whole timeout. */
export const SLOW: readonly MutatorName[] = ["never answer", "body that never comes"];
