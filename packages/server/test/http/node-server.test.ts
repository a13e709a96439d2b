/** What a connection may do: one request at a time, and not for ever; spec/http.md § Limits, § Transport. */

import { once } from "node:events";
import { connect, type AddressInfo, type Socket } from "node:net";
import { setTimeout } from "node:timers/promises";
import { connect as connectTls } from "node:tls";

import { Hono } from "hono";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";

import type { NodeEnv } from "../../src/http/dispatch.js";
import { createNodeServer, type TimeLimits } from "../../src/http/node-server.js";
import { readTlsFiles, type KeyPair } from "../../src/tls-files.js";
import { Authority } from "../certificates.js";

const LARGE = new Uint8Array(64 * 1_048_576);
const QUIET: TimeLimits = { request: 30_000, inactivity: 60_000 };

let authority: Authority;
let pair: KeyPair;
beforeAll(async () => {
  authority = await Authority.create();
  pair = await readTlsFiles(await authority.issue());
});
afterAll(() => authority[Symbol.asyncDispose]());

type Scheme = "HTTP" | "HTTPS";

/** A listening server of few routes, how often they were called, and how many requests Node made objects of. */
async function listenTo(scheme: Scheme, limits: Partial<TimeLimits> = {}) {
  const calls = { parsed: 0, slow: 0, body: 0 };
  const app = new Hono<NodeEnv>();
  app.get("/fast", (context) => context.text("fast"));
  app.get("/large", (context) => context.body(LARGE));
  app.get("/slow", async (context) => {
    calls.slow++;
    await setTimeout(300);
    return context.text("slow");
  });
  app.put("/body", async (context) => {
    calls.body++;
    return context.text(await context.req.text().catch(() => "broken"));
  });
  const certificate = scheme === "HTTPS" ? { current: pair, follow() {} } : undefined;
  const server = createNodeServer(app, 100, { ...QUIET, ...limits }, certificate);
  server.on("request", () => calls.parsed++);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { calls, open: () => opened(port, scheme) };
}

/** A connection, and what came back on it until the server closed it. */
function opened(port: number, scheme: Scheme): { socket: Socket; received: Promise<string> } {
  const host = "127.0.0.1";
  const socket = scheme === "HTTP" ? connect(port, host) : connectTls({ port, host, ca: authority.certificate });
  socket.on("error", () => undefined);
  onTestFinished(() => void socket.destroy());
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString("latin1")));
  const received = new Promise<string>((resolve) => socket.once("close", () => resolve(text)));
  return { socket, received };
}

const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;

describe.each(["HTTP", "HTTPS"] as const)("%s", (scheme) => {
  const listen = (limits?: Partial<TimeLimits>) => listenTo(scheme, limits);

  test("a second request before the answer to the first ends the connection, and is not even parsed", async () => {
    const { calls, open } = await listen();
    const { socket, received } = open();
    socket.write(get("/slow").repeat(100));
    expect(await received).toBe("");
    expect(calls).toEqual({ parsed: 1, slow: 1, body: 0 });
  });

  test("a request that asks for another protocol is answered like any other", async () => {
    const { open } = await listen();
    const { socket, received } = open();
    socket.write("GET /fast HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n");
    expect(await received).toMatch(/^HTTP\/1.1 200 OK\r\n[^]*\r\n\r\nfast$/);
  });

  test("requests one after the other share a connection, however large the answers", async () => {
    const { open } = await listen();
    const { socket } = open();
    for (let round = 0; round < 200; round++) {
      const path = round % 50 === 0 ? "/large" : "/fast";
      let length = 0;
      const end = path === "/large" ? LARGE.length : 4;
      socket.write(get(path));
      while (length < end) {
        const [chunk] = (await once(socket, "data")) as [Buffer];
        // The head comes with the first chunk.
        length += length === 0 ? chunk.length - (chunk.indexOf("\r\n\r\n") + 4) : chunk.length;
      }
      expect(length).toBe(end);
    }
    expect(socket.destroyed).toBe(false);
  });

  test("an answer that nobody reads does not hold its connection for ever", async () => {
    const { open } = await listen({ inactivity: 200 });
    const { socket, received } = open();
    socket.pause();
    socket.write(get("/large"));
    // What is in the system's buffers still comes; then the connection is at its end.
    await setTimeout(1_500);
    socket.resume();
    expect((await received).length).toBeLessThan(LARGE.length);
  });

  test("rubbish behind a request gets no answer that could be taken for that request's", async () => {
    const { calls, open } = await listen();
    const { socket, received } = open();
    socket.write(`${get("/slow")}RUBBISH\r\n\r\n`);
    expect(await received).toBe("");
    expect(calls.slow).toBe(1);
  });

  test("a body that cannot be parsed, or does not come, is refused in words", async () => {
    const { calls, open } = await listen({ request: 500 });
    const head = "PUT /body HTTP/1.1\r\nHost: a\r\n";
    for (const [rest, status, code] of [
      ["Transfer-Encoding: chunked\r\n\r\nnothing\r\n", 400, "invalid_request"],
      ["Content-Length: 10\r\n\r\nhalf", 408, "request_timeout"],
    ] as const) {
      const { socket, received } = open();
      socket.write(head + rest);
      const answer = await received;
      expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
      expect(answer).toContain(`"code":"${code}"`);
      expect(answer.split("HTTP/1.1 ")).toHaveLength(2);
    }
    expect(calls.body).toBe(2);
  });
});
