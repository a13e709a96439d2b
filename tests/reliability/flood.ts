/** More than a server takes on: raw requests on many connections, by clients that retry nothing and forgive nothing. */

import { randomBytes } from "node:crypto";
import { Agent, request, type IncomingHttpHeaders } from "node:http";
import { connect, type Socket } from "node:net";

import { MAX_RECORD_BYTES, MIN_RECORD_BYTES, RECORD_MEDIA_TYPE } from "@tacenda/protocol";
import { onTestFinished } from "vitest";

import { STORE } from "./key-world.ts";

export interface Answered {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
  milliseconds: number;
}

export interface Sent {
  method?: "GET" | "PUT" | "POST";
  path: string;
  token?: string;
  headers?: Record<string, string>;
  body?: Uint8Array | string;
}

/** Bytes with a good head and noise behind it, as a server sees a sealed record. */
export function noiseRecord(length = MIN_RECORD_BYTES): Uint8Array {
  const record = new Uint8Array(randomBytes(length));
  record.set([1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  return record;
}

const LARGE = noiseRecord(MAX_RECORD_BYTES);
const SMALL = noiseRecord();

export function recordPath(hash = randomBytes(32).toString("base64url")): string {
  return `/v1/projects/default/stores/${STORE}/records/${hash}`;
}

/** The write of a new record. */
export function creation(token: string, size: "small" | "large", path = recordPath()): Sent {
  const headers = { "content-type": RECORD_MEDIA_TYPE, "if-none-match": "*" };
  return { method: "PUT", path, token, headers, body: size === "large" ? LARGE : SMALL };
}

/** Clients that share connections, at most so many. */
export class Clients {
  readonly #agent: Agent;
  readonly #url: string;

  constructor(url: string, connections: number) {
    this.#url = url;
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections });
    onTestFinished(() => this.#agent.destroy());
  }

  /** @throws what the network throws, a connection that is closed without an answer included. */
  async send({ method = "GET", path, token, headers, body }: Sent): Promise<Answered> {
    const started = performance.now();
    const length = body === undefined ? undefined : Buffer.byteLength(body);
    return await new Promise((resolve, reject) => {
      const outgoing = request(
        this.#url + path,
        {
          agent: this.#agent,
          method,
          headers: {
            ...headers,
            ...(token !== undefined && { authorization: `Bearer ${token}` }),
            ...(length !== undefined && { "content-length": length }),
          },
        },
        (answer) => {
          const chunks: Buffer[] = [];
          answer.on("data", (chunk: Buffer) => chunks.push(chunk)).on("error", reject);
          answer.on("end", () => {
            const text = Buffer.concat(chunks).toString("latin1");
            const milliseconds = performance.now() - started;
            resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: text, milliseconds });
          });
        },
      );
      outgoing.on("error", reject).end(body);
    });
  }
}

/** What a flood came to. */
export interface Flooded {
  /** How many answers had which status. */
  statuses: Record<number, number>;
  /** Answers that must not be: lost ones, other statuses, a 503 or 429 without Retry-After or with another code. */
  faults: string[];
  answers: (Answered & { path: string })[];
}

/** `connections` clients send one request after the other until `end`, in milliseconds of the process's clock. */
export async function flood(
  url: string,
  connections: number,
  end: number,
  next: () => Sent,
  allowed: readonly number[],
): Promise<Flooded> {
  const clients = new Clients(url, connections);
  const result: Flooded = { statuses: {}, faults: [], answers: [] };
  const run = async () => {
    while (performance.now() < end) {
      const sent = next();
      try {
        const answer = await clients.send(sent);
        result.statuses[answer.status] = (result.statuses[answer.status] ?? 0) + 1;
        const fault = faultOf(answer, allowed);
        if (fault !== null) result.faults.push(fault);
        result.answers.push({ ...answer, path: sent.path });
      } catch (error) {
        result.faults.push(`no answer: ${String(error)}`);
      }
    }
  };
  await Promise.all(Array.from({ length: connections }, run));
  return result;
}

function faultOf({ status, headers, body }: Answered, allowed: readonly number[]): string | null {
  if (!allowed.includes(status)) return `${status} ${body}`;
  if (status !== 503 && status !== 429) return null;
  if (!/^[1-9][0-9]*$/.test(headers["retry-after"] ?? "")) return `${status} without Retry-After`;
  return body.includes(status === 503 ? '"overloaded"' : '"rate_limited"') ? null : `${status} ${body}`;
}

/** A connection that sends these bytes and then nothing, and reads nothing. */
export async function stall(url: string, bytes: readonly (string | Uint8Array)[]): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  onTestFinished(() => void socket.destroy());
  socket.on("error", () => undefined).pause();
  await new Promise<void>((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  for (const part of bytes) socket.write(part);
  return socket;
}

/** The beginning of a request on a raw connection. */
export function rawHead({ method = "GET", path, token, headers }: Sent, length: number): string {
  const lines = Object.entries({
    host: "localhost",
    ...(token !== undefined && { authorization: `Bearer ${token}` }),
    ...headers,
    "content-length": String(length),
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n`;
}
