/** Requests over the whole route table, right and wrong in every part, down to the bytes on the wire. */

import { RECORD_MEDIA_TYPE } from "@tacenda/protocol";
import fc from "fast-check";

import { ROUTES, type Route } from "../../../packages/server/src/http/routes.ts";
import { Body, bodyFor } from "./bodies.ts";
import { CANARY, ELSEWHERE, HASHES, NEEDLE, STORES, TOKEN_NAMES, type Scene, type TokenName } from "./scene.ts";

/** How the body is sent; in some ways the request never ends, or ends too early. */
type Framing =
  "length" | "chunked" | "trailers" | "old" | "short" | "long" | "both" | "twice" | "gzip" | "missing" | "expect";

export interface FuzzRequest {
  /** Method and path of a route; short, for who reads a counterexample. */
  route: string;
  /** Null: the route's. */
  method: string | null;
  /** Null: the scene's. */
  project: string | null;
  store: string;
  hash: string;
  token: number | string;
  /** What is done to the path when all else stands in it. */
  path: number;
  query: string;
  /** Null: no such header. */
  sender: TokenName | "nobody" | "malformed";
  headers: readonly string[];
  mediaType: string | null;
  framing: Framing;
  body: Body;
}

/** Whole exchanges that follow no grammar. */
export interface Garbage {
  garbage: Body;
}

const often = <T>(weight: number, usual: fc.Arbitrary<T>, ...rare: fc.Arbitrary<T>[]) =>
  fc.oneof({ weight, arbitrary: usual }, ...rare.map((arbitrary) => ({ weight: 1, arbitrary })));

const ODD_SEGMENTS = [
  ...[
    "",
    ".",
    "..",
    "%2e%2e",
    "a%2Fb",
    "%00",
    "A",
    "-a",
    "a b",
    "a;b",
    "a\tb",
    "a\\b",
    "é",
    "\u0000",
    "a".repeat(64),
    "*",
  ],
  ...["__proto__", "constructor", `${NEEDLE}%0d%0a`, "a?b", "a#b", "0", "undefined", "null", "x".repeat(3_000)],
];
const ODD_HASHES = [
  `${"A".repeat(42)}B`,
  "A".repeat(42),
  "A".repeat(44),
  "_".repeat(43),
  `${"A".repeat(42)}=`,
  "+".repeat(43),
];
const ODD_QUERIES = [
  ...[
    "version=0",
    "version=-1",
    "version=1e3",
    "version=01",
    "version=9007199254740992",
    "version=99999999999999999999",
  ],
  ...[
    "version=9223372036854775808",
    "version=%00",
    "version=",
    "version",
    "version=1&version=2",
    "version=1%00",
    "version=٣",
  ],
  ...[
    "purge=",
    "purge=Earlier",
    "purge=earlier&purge=earlier",
    "__proto__=1",
    "constructor=1",
    `${NEEDLE}=${NEEDLE}`,
    "&",
    "=",
    "?",
  ],
  ...["%", "%zz", "%ff", "#x", "version=1#x", "a[]=1", `x=${"y".repeat(6_000)}`],
];
const CONDITIONS = [
  ...[
    "If-None-Match: *",
    'If-Match: "1"',
    'If-Match: "2"',
    'If-Match: "3"',
    'If-None-Match: "1"',
    'If-None-Match: "1", W/"3"',
  ],
  ...[
    'If-Match: "0"',
    'If-Match: "01"',
    'If-Match: W/"1"',
    'If-Match: "1", "2"',
    "If-Match: *",
    "If-Match: 1",
    "If-Match: ",
    'If-Match: ""',
  ],
  ...[
    'If-Match: "9007199254740990"',
    'If-Match: "9007199254740991"',
    'If-Match: "9007199254740992"',
    'If-Match: "99999999999999999"',
  ],
];
const ODD_HEADERS = [
  ...[
    "X-Forwarded-For: 1.1.1.1",
    "X-HTTP-Method-Override: DELETE",
    "Cookie: a=b",
    "Range: bytes=0-1",
    "Upgrade: h2c",
    "Connection: upgrade",
  ],
  ...[
    "Connection: keep-alive",
    "Accept-Encoding: gzip",
    "Content-Encoding: gzip",
    "Origin: http://evil.example",
    `X-Long: ${"a".repeat(8_000)}`,
  ],
  ...[
    `X-Longer: ${"a".repeat(20_000)}`,
    "Host: other.example",
    "Host: a b",
    "__proto__: 1",
    "constructor: 1",
    "X-Bytes: \u00ff\u00fe",
    "X-Nul: a\0b",
  ],
  ...[
    "X-Folded: a\r\n b",
    "X Space: 1",
    ": 1",
    "no colon",
    "X-Bare: a\nb",
    "Expect: 200-ok",
    "TE: trailers",
    "Transfer-Encoding: identity",
  ],
  ...[
    `Authorization: Bearer ${NEEDLE}`,
    "Authorization:",
    "Content-Type: text/plain",
    "If-Modified-Since: yesterday",
    "Date: x",
    "Keep-Alive: timeout=0",
  ],
];
const MEDIA_TYPES = [
  "application/json; charset=utf-8",
  "application/json;charset=utf-16",
  "text/plain",
  "application/x-www-form-urlencoded",
  "",
  "*/*",
  "application/JSON",
  "multipart/form-data; boundary=x",
];
const METHODS = [
  "GET",
  "HEAD",
  "POST",
  "PUT",
  "PATCH",
  "DELETE",
  "OPTIONS",
  "TRACE",
  "CONNECT",
  "QUERY",
  "get",
  "PROPFIND",
];

/** What a route is drawn for. Those that end what the scene rests on, or are slow, are drawn less often. */
function weightOf({ method, path }: Route): number {
  if (path.includes("/records/") || path.endsWith("/batch")) return 24;
  if (path.includes("/keys")) return 2;
  if (method === "DELETE" && (path.endsWith(":project") || path.endsWith(":store"))) return 1;
  return 6;
}

const nameOf = ({ method, path }: Route) => `${method} ${path}`;
const BY_NAME = new Map(ROUTES.map((one) => [nameOf(one), one]));

/** The route that a request is drawn from. */
export function routeOf({ route }: FuzzRequest): Route {
  const found = BY_NAME.get(route);
  if (found === undefined) throw new Error("There is no such route.");
  return found;
}

const routes = fc.oneof(...ROUTES.map((one) => ({ weight: weightOf(one), arbitrary: fc.constant(one) })));

const wellRouted = routes.chain((one) =>
  fc.record<FuzzRequest>({
    route: fc.constant(nameOf(one)),
    method: often(60, fc.constant<string | null>(null), fc.constantFrom(...METHODS)),
    project: often(
      40,
      fc.constant<string | null>(null),
      fc.constantFrom(CANARY, ELSEWHERE, "default", "nowhere"),
      fc.constantFrom(...ODD_SEGMENTS),
    ),
    store: often(40, fc.constantFrom("a", "a", "a", "a", ...STORES), fc.constantFrom(...ODD_SEGMENTS)),
    hash: often(60, fc.constantFrom(...HASHES), fc.constantFrom(...ODD_HASHES, ...ODD_SEGMENTS)),
    token: often<number | string>(3, fc.nat(2), fc.constantFrom(...ODD_SEGMENTS, "0".repeat(12))),
    path: often(60, fc.constant(0), fc.nat(9)),
    query: often(
      one.query.length > 0 ? 4 : 25,
      fc.constantFrom("", "", "", ...one.query.map((name) => `${name}=${name === "purge" ? "earlier" : "1"}`)),
      fc.constantFrom(...ODD_QUERIES),
    ),
    sender: fc.oneof(
      { weight: 20, arbitrary: fc.constant(usualSender(one)) },
      { weight: 4, arbitrary: fc.constantFrom(...TOKEN_NAMES) },
      { weight: 1, arbitrary: fc.constantFrom<"nobody" | "malformed">("nobody", "malformed") },
    ),
    headers: fc
      .tuple(
        one.path.endsWith(":hash")
          ? often(3, fc.constantFrom(...CONDITIONS.slice(0, 6)), fc.constantFrom(...CONDITIONS)).map((line) => [line])
          : fc.constant([]),
        often(
          40,
          fc.constant<string[]>([]),
          fc.array(fc.constantFrom(...ODD_HEADERS, ...CONDITIONS), { maxLength: 3 }),
        ),
      )
      .map((lists) => lists.flat()),
    mediaType: often(
      40,
      fc.constant(usualType(one)),
      fc.constantFrom(null, "application/json", RECORD_MEDIA_TYPE, ...MEDIA_TYPES),
    ),
    framing: often<Framing>(
      40,
      fc.constant("length"),
      fc.constantFrom("chunked", "trailers", "old"),
      fc.constantFrom("short", "long", "both", "twice", "gzip", "missing", "expect"),
    ),
    body: bodyFor(one),
  }),
);

function usualSender({ permission }: Route): TokenName {
  if (permission === "root") return "root";
  return permission === "manage" ? "manager" : "full";
}

function usualType({ body }: Route): string | null {
  if (body === "none") return null;
  return body === "json" ? "application/json" : RECORD_MEDIA_TYPE;
}

const GARBAGE = [
  ...[
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET / HTTP/0.9\r\n\r\n",
    "GET /\r\n\r\n",
    "\r\n\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "GET / HTTP/1.1\r\n",
  ],
  ...[
    "GET /livez HTTP/1.1\r\n\r\n",
    "GET  /livez HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /livez HTTP/1.1\nHost: a\n\n",
    "get /livez http/1.1\r\nHost: a\r\n\r\n",
  ],
  ...[
    "GET http://a/livez HTTP/1.1\r\nHost: b\r\n\r\n",
    "GET //livez HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
  ],
  ...[
    "GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET /livez HTTP/1.1\r\nHost:\r\n\r\n",
    `GET /${"a".repeat(30_000)} HTTP/1.1\r\nHost: a\r\n\r\n`,
  ],
  ...[
    "GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /livez HTTP/9.9\r\nHost: a\r\n\r\n",
    `GET /livez HTTP/1.1\r\n${"A: b\r\n".repeat(3_000)}\r\n`,
  ],
];

const garbage = fc
  .oneof(
    fc.constantFrom(...GARBAGE),
    fc.uint8Array({ minLength: 1, maxLength: 300 }),
    fc.tuple(fc.constantFrom(...GARBAGE), fc.nat(80), fc.nat(255)).map(([text, place, value]) => {
      const bytes = Buffer.from(text, "latin1");
      bytes[place % bytes.length] = value;
      return bytes;
    }),
  )
  .map((bytes): Garbage => ({ garbage: new Body(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes) }));

export const requests = fc.array(often<FuzzRequest | Garbage>(40, wellRouted, garbage), {
  minLength: 30,
  maxLength: 60,
  size: "max",
});

/** A request as it goes over the wire. */
export interface Rendered {
  bytes: Uint8Array;
  method: string;
  path: string;
  /** Whether it aims at the canary. */
  atCanary: boolean;
  /** The path and method are the route's, with nothing odd but in what stands for its parameters. */
  isRouted: boolean;
  /** It never ends. */
  isPartial: boolean;
  /** More follows than the request: the server may close without an answer. */
  hasMore: boolean;
}

/** @param scene Names and tokens that the request means. */
export function render(request: FuzzRequest, scene: Scene): Rendered {
  const { sender, framing, mediaType, query } = request;
  const aimed = routeOf(request);
  const project = projectOf(request, scene);
  const token = typeof request.token === "string" ? request.token : (scene.tokenIds[request.token] ?? "");
  const own = aimed.path
    .replace(":project", () => project)
    .replace(":store", () => request.store)
    .replace(":hash", () => request.hash)
    .replace(":token", () => token);
  const path = tweaked(own, request.path);
  const method = request.method ?? aimed.method;
  const { lines, body } = framed(request, aimed);
  const head = [
    `${method} ${path}${query === "" ? "" : `?${query}`} HTTP/${framing === "old" ? "1.0" : "1.1"}`,
    "Host: 127.0.0.1",
    ...authorization(sender, scene),
    ...(mediaType === null ? [] : [`Content-Type: ${mediaType}`]),
    ...request.headers,
    ...lines,
  ];
  return {
    bytes: Buffer.concat([Buffer.from(`${head.join("\r\n")}\r\n\r\n`), body]),
    method,
    path,
    atCanary: path.includes(`projects/${CANARY}`),
    isRouted:
      !/[?#/]/.test(project + request.store + request.hash + token) &&
      request.path === 0 &&
      request.method === null &&
      !request.headers.some((line) => ODD_HEADERS.includes(line)),
    isPartial: framing === "long" || framing === "expect",
    hasMore: framing === "short" || framing === "missing" || method === "CONNECT",
  };
}

function projectOf({ project, sender }: FuzzRequest, scene: Scene): string {
  if (project === ELSEWHERE) return scene.elsewhere;
  // The root token may do everything, with the canary included.
  return project === null || (project === CANARY && sender === "root") ? scene.project : project;
}

function tweaked(path: string, tweak: number): string {
  const tweaks = [
    path,
    `/${path}`,
    `${path}/`,
    path.replace("/projects", "//projects"),
    `/x/..${path}`,
    path.toUpperCase(),
    `${path}%20`,
  ];
  return [...tweaks, `http://127.0.0.1${path}`, `${path}/versions`, path.slice(1)][tweak] ?? path;
}

function authorization(sender: FuzzRequest["sender"], { tokens }: Scene): string[] {
  if (sender === "nobody") return [];
  if (sender === "malformed") return [`Authorization: Bearer ${tokens.full.slice(0, -1)}~`];
  return [`Authorization: Bearer ${tokens[sender]}`];
}

const chunk = (bytes: Uint8Array) =>
  Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from("\r\n")]);

function framed(
  { framing, body: { bytes } }: FuzzRequest,
  { body: taken }: Route,
): {
  lines: string[];
  body: Uint8Array;
} {
  const { length } = bytes;
  const half = Math.ceil(length / 2);
  const chunks = [bytes.subarray(0, half), bytes.subarray(half)].filter((part) => part.length > 0).map(chunk);
  const chunked = (...end: string[]) => Buffer.concat([...chunks, Buffer.from(`0\r\n${end.join("")}\r\n`)]);
  switch (framing) {
    case "length":
    case "old":
      return { lines: taken === "none" && length === 0 ? [] : [`Content-Length: ${length}`], body: bytes };
    case "chunked":
      return { lines: ["Transfer-Encoding: chunked"], body: chunked() };
    case "trailers":
      return { lines: ["Transfer-Encoding: chunked", "Trailer: X-A"], body: chunked("X-A: b\r\n") };
    case "short":
      return { lines: [`Content-Length: ${half}`], body: bytes };
    case "long":
      return { lines: [`Content-Length: ${length + 10}`], body: bytes };
    case "both":
      return { lines: [`Content-Length: ${length}`, "Transfer-Encoding: chunked"], body: chunked() };
    case "twice":
      return { lines: [`Content-Length: ${length}`, `Content-Length: ${length + 1}`], body: bytes };
    case "gzip":
      return { lines: ["Transfer-Encoding: gzip, chunked"], body: chunked() };
    case "missing":
      return { lines: [], body: bytes };
    case "expect":
      return { lines: [`Content-Length: ${length}`, "Expect: 100-continue"], body: bytes };
  }
}
