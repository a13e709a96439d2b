/** The load generator, in a process of its own: connections that each send the next request when they have an answer. */

import { randomBytes, randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { DEFAULT_PROJECT, KEY_HASH_BYTES, RECORD_MEDIA_TYPE, encodeKeyHash, recordPath } from "@tacenda/protocol";

import { RECORD_BYTES, STORE, fillRecord } from "../fixture.ts";
import { answerParent } from "./child.ts";
import { Connection } from "./connection.ts";
import { requestHead, type Target } from "./contender.ts";

const USUAL_CONNECTIONS = 64;
const CREATED = 201;
/** Between two reads of a probe: so few that they load nobody. */
const PACE_MILLISECONDS = 5;
const NOTHING = Buffer.alloc(0);

/** What a record takes and how many connections there are, where it is not as usual. */
interface Shape {
  /** Bytes of a sealed record. */
  bytes?: number;
  connections?: number;
}

export interface Load extends Shape {
  target: Target;
  method: "GET" | "PUT";
  seconds: number;
}

export interface Filling extends Shape {
  target: Target;
  count: number;
  /** Where the records go, in turns. */
  stores?: readonly string[];
}

export interface LoadResult {
  requests: number;
  seconds: number;
  /** Share of one core that the generator itself used: near 1, it is the generator that is measured. */
  generatorLoad: number;
}

/** What the last `fill` has written, and GETs ask for. */
let written: { hash: Uint8Array; store: string }[] = [];
/** Connections on which nothing is sent. */
let idle: Connection[] = [];

const handlers = {
  /** Writes `count` records to read later. */
  async fill({ target, count, stores = [STORE], bytes, connections }: Filling): Promise<void> {
    written = [];
    const put = stores.map((store) => puts(target, { store, bytes }, (hash) => written.push({ hash, store })));
    let left = count;
    await drive(target, CREATED, () => (left-- > 0 ? (put[left % put.length]?.() ?? null) : null), connections);
  },

  async load({ target, method, seconds, bytes, connections }: Load): Promise<LoadResult> {
    const next = method === "GET" ? gets(target) : puts(target, { bytes });
    const start = performance.now();
    const before = process.cpuUsage();
    const deadline = start + seconds * 1000;
    const status = method === "GET" ? 200 : CREATED;
    const requests = await drive(target, status, () => (performance.now() < deadline ? next() : null), connections);
    const { user, system } = process.cpuUsage(before);
    const milliseconds = performance.now() - start;
    return { requests, seconds: milliseconds / 1000, generatorLoad: (user + system) / 1000 / milliseconds };
  },

  /** Opens so many connections that have each had an answer and then rest; 0 closes them. */
  async rest({ target, count }: { target: Target; count: number }): Promise<void> {
    for (const connection of idle.splice(0)) connection.close();
    const next = gets(target);
    idle = await Promise.all(Array.from({ length: count }, () => Connection.open(target.url, 200)));
    for (const connection of idle) await connection.ask(next());
  },

  /** Reads at a steady pace, whether earlier reads are answered or not, and gives the milliseconds that each took. */
  async probe({ target: { url, token }, seconds }: { target: Target; seconds: number }): Promise<number[]> {
    const headers = { authorization: `Bearer ${token}` };
    const read = async () => {
      const start = performance.now();
      const hash = written[randomInt(written.length)]?.hash ?? NOTHING;
      const answer = await fetch(new URL(recordPath(DEFAULT_PROJECT, STORE, hash), url), { headers });
      await answer.arrayBuffer();
      if (answer.status !== 200) throw new Error(`Unexpected answer: ${answer.status}`);
      return performance.now() - start;
    };
    const reads: Promise<number>[] = [];
    for (let left = (seconds * 1000) / PACE_MILLISECONDS; left > 0; left--) {
      reads.push(read());
      await sleep(PACE_MILLISECONDS);
    }
    return await Promise.all(reads);
  },
};

export type GeneratorHandlers = typeof handlers;
answerParent(handlers);

/** How many requests were answered. */
async function drive(
  { url }: Target,
  status: number,
  next: () => Buffer | null,
  connections = USUAL_CONNECTIONS,
): Promise<number> {
  const open = await Promise.all(Array.from({ length: connections }, () => Connection.open(url, status)));
  const counts = await Promise.all(open.map((connection) => connection.run(next)));
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Reads of written records, uniformly at random. */
function gets(target: Target): () => Buffer {
  const requests = written.map(({ hash, store }) => Buffer.from(`${requestHead("GET", hash, target, store)}\r\n`));
  return () => requests[randomInt(requests.length)] ?? requests[0] ?? NOTHING;
}

/** First writes of random hashes, each with a body of its own that looks like a sealed record. */
function puts(
  target: Target,
  { store, bytes = RECORD_BYTES }: Shape & { store?: string } = {},
  onHash?: (hash: Uint8Array) => void,
): () => Buffer {
  const example = requestHead("PUT", randomBytes(KEY_HASH_BYTES), target, store);
  const condition = `If-None-Match: *\r\nContent-Type: ${RECORD_MEDIA_TYPE}\r\nContent-Length: ${bytes}\r\n\r\n`;
  const template = Buffer.from(example + condition + "\0".repeat(bytes));
  const body = template.length - bytes;
  const hashAt = example.indexOf(" HTTP/1.1") - 43;
  return () => {
    const request = Buffer.from(template);
    const hash = randomBytes(KEY_HASH_BYTES);
    onHash?.(hash);
    request.write(encodeKeyHash(hash), hashAt, "latin1");
    fillRecord(request, body);
    return request;
  };
}
