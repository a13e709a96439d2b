/** What TLS adds to connections: handshakes that fail or never end, renewed certificates, the limits all the same; spec/http.md § TLS. */

import { once } from "node:events";
import { existsSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls, getCACertificates, setDefaultCACertificates, type ConnectionOptions } from "node:tls";

import { Hono } from "hono";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";

import type { NodeEnv } from "../../src/http/dispatch.js";
import { createNodeServer } from "../../src/http/node-server.js";
import { SURPLUS_CONNECTIONS } from "../../src/http/surplus.js";
import { portOf, startServer } from "../../src/server.js";
import { StartupError } from "../../src/startup-error.js";
import { readTlsFiles, type KeyPair, type TlsFiles } from "../../src/tls-files.js";
import { Authority, replaceFiles } from "../certificates.js";
import { ROOT_TOKEN, freshFolder, openWorld, type World } from "../world.js";

const HOST = "127.0.0.1";
const HANDSHAKE_MILLISECONDS = 400;
const GET = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${ROOT_TOKEN}\r\n\r\n`;
/** The record header of a handshake message, and no message. */
const HALF_A_HELLO = Buffer.from("160301020001", "hex");

let authority: Authority;
let files: TlsFiles;
let other: TlsFiles;

beforeAll(async () => {
  authority = await Authority.create();
  files = await authority.issue();
  other = await authority.issue();
  setDefaultCACertificates([...getCACertificates("default"), authority.certificate]);
});
afterAll(() => authority[Symbol.asyncDispose]());

/** A listening server of one route, and how many connections it has. */
async function listen() {
  const app = new Hono<NodeEnv>();
  app.get("/livez", (context) => context.text("live"));
  let renew: (pair: KeyPair) => void = () => undefined;
  const certificate = { current: await readTlsFiles(files), follow: (use: typeof renew) => void (renew = use) };
  const server = createNodeServer(app, 100, { request: HANDSHAKE_MILLISECONDS, inactivity: 60_000 }, certificate);
  server.listen(0, HOST);
  await once(server, "listening");
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const open = () =>
    new Promise<number>((resolve, reject) =>
      server.getConnections((error, count) => (error === null ? resolve(count) : reject(error))),
    );
  return { port: portOf(server), open, renew: (pair: KeyPair) => renew(pair) };
}

interface Watched<S extends Socket> {
  socket: S;
  /** What came back on it so far. */
  received: () => string;
  /** Resolves when it is closed, with what it failed with. */
  closed: Promise<Error | null>;
}

function watched<S extends Socket>(socket: S): Watched<S> {
  onTestFinished(() => void socket.destroy());
  let text = "";
  socket.on("error", () => undefined).on("data", (chunk: Buffer) => (text += chunk.toString("latin1")));
  const closed = new Promise<Error | null>((resolve) => socket.once("close", () => resolve(socket.errored)));
  return { socket, received: () => text, closed };
}

const tcp = (port: number) => watched(connect(port, HOST));
const tls = (port: number, options: ConnectionOptions = {}) => watched(connectTls({ port, host: HOST, ...options }));

async function serialOf(port: number): Promise<string> {
  const { socket } = tls(port);
  await once(socket, "secureConnect");
  const { serialNumber } = socket.getPeerCertificate();
  socket.destroy();
  return serialNumber;
}

describe("handshakes", () => {
  test("come to TLS 1.2 or 1.3 and HTTP/1.1, or to nothing", async () => {
    const { port, open } = await listen();
    for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
      const range = { minVersion: version, maxVersion: version } as const;
      const { socket } = tls(port, { ...range, ALPNProtocols: ["h2", "http/1.1"] });
      await once(socket, "secureConnect");
      expect([socket.getProtocol(), socket.alpnProtocol]).toEqual([version, "http/1.1"]);
      socket.destroy();
    }
    const old = { minVersion: "TLSv1.1", maxVersion: "TLSv1.1", ciphers: "DEFAULT@SECLEVEL=0" } as const;
    for (const options of [old, { ALPNProtocols: ["h2"] }]) {
      expect((await tls(port, options).closed)?.message).toMatch(/alert/);
    }
    await vi.waitFor(async () => expect(await open()).toBe(0));
  });

  test("that are none, plain HTTP or noise, end without an answer, and others are served", async () => {
    const { port, open } = await listen();
    for (const bytes of [GET("/livez"), "noise\r\n\r\n", "\x16\x03\x01\x00\x05hello"]) {
      const { socket, received, closed } = tcp(port);
      socket.write(bytes);
      await closed;
      expect(received()).not.toContain("HTTP");
    }
    await vi.waitFor(async () => expect(await open()).toBe(0));
    const { socket, received } = tls(port);
    socket.write(GET("/livez"));
    await vi.waitFor(() => expect(received()).toMatch(/^HTTP\/1.1 200 [^]*live$/));
  });

  test("that never come to their end are cut off in time, whether anything comes or not", async () => {
    const { port, open } = await listen();
    const started = performance.now();
    const silent = Array.from({ length: 5 }, () => tcp(port));
    const slow = Array.from({ length: 5 }, () => tcp(port));
    const drip = setInterval(() => {
      for (const { socket } of slow) if (socket.writable) socket.write(HALF_A_HELLO.subarray(0, 1));
    }, HANDSHAKE_MILLISECONDS / 8);
    onTestFinished(() => clearInterval(drip));
    for (const { socket } of slow) socket.write(HALF_A_HELLO);
    await Promise.all([...silent, ...slow].map(({ closed }) => closed));
    expect(performance.now() - started).toBeGreaterThan(HANDSHAKE_MILLISECONDS * 0.9);
    expect(performance.now() - started).toBeLessThan(HANDSHAKE_MILLISECONDS * 10);
    await vi.waitFor(async () => expect(await open()).toBe(0));
  });
});

describe("a renewed certificate", () => {
  test("is shown to new connections; those there are go on", async () => {
    const { port, renew } = await listen();
    const { socket, received } = tls(port);
    await once(socket, "secureConnect");
    const before = socket.getPeerCertificate().serialNumber;
    const pair = await readTlsFiles(other);
    renew(pair);
    expect(await serialOf(port)).not.toBe(before);
    socket.write(GET("/livez"));
    await vi.waitFor(() => expect(received()).toMatch(/^HTTP\/1.1 200 [^]*live$/));
  });

  test("is found in its files by a running server, whose metrics tell its end", async () => {
    const own = await authority.issue(10);
    const lines: string[] = [];
    const log = (_fields: object, message: string) => void lines.push(message);
    const world = await openWorld({
      ...{ tls: own, tlsInterval: 20, metricsPort: 0, now: Date.now },
      logger: { debug: log, info: log, warn: log, error: log },
    });
    expect(world.url).toBe(`https://127.0.0.1:${world.port}`);
    const expiry = async () => {
      const text = await (await fetch(world.metricsUrl ?? "")).text();
      return Number(/^tacenda_tls_certificate_expiry_timestamp_seconds (.*)$/m.exec(text)?.[1]) * 1_000;
    };
    expect(await expiry()).toBe((await readTlsFiles(own)).validTo);
    const before = await serialOf(world.port);
    await replaceFiles(own, other);
    await vi.waitFor(() => expect(lines).toContain("the certificate was renewed"));
    expect(await serialOf(world.port)).not.toBe(before);
    expect(await expiry()).toBe((await readTlsFiles(other)).validTo);
  });
});

test("files that cannot be used keep a server from starting, before it has made anything", async () => {
  const dataDir = join(await freshFolder(), "data");
  const { certFile } = files;
  const start = (tls: Partial<TlsFiles>) => startServer({ dataDir, port: 0, tls: tls as TlsFiles });
  await expect(start({ certFile })).rejects.toThrow(TypeError);
  await expect(start({ certFile, keyFile: other.keyFile })).rejects.toThrow(StartupError);
  expect(existsSync(dataDir)).toBe(false);
});

test("without a certificate the metrics tell no end of one", async () => {
  const world = await openWorld({ metricsPort: 0 });
  expect(await (await fetch(world.metricsUrl ?? "")).text()).not.toContain("certificate");
});

describe("connections", () => {
  const metric = async (world: World) =>
    Number(/^tacenda_connections_dropped_total (.*)$/m.exec(await (await fetch(world.metricsUrl ?? "")).text())?.[1]);

  test("beyond the limit are told to come back, and closed; health is told all the same", async () => {
    const world = await openWorld({ tls: files, maxConnections: 5 });
    const kept: ReturnType<typeof tls>[] = [];
    for (;;) {
      const one = tls(world.port);
      one.socket.write(GET("/v1/token"));
      await vi.waitFor(() => expect(one.received()).toContain("}"));
      if (one.received().startsWith("HTTP/1.1 503")) break;
      kept.push(one);
    }
    expect(kept.length).toBeGreaterThan(0);
    expect(kept.length).toBeLessThan(5);
    const { socket, received, closed } = tls(world.port);
    socket.write(GET("/livez"));
    await closed;
    expect(received()).toMatch(/^HTTP\/1.1 200 [^]*connection: close\r\n[^]*"live"/i);
    for (const { socket } of kept) socket.destroy();
    await vi.waitFor(async () =>
      expect((await world.call("GET", "/v1/token", { token: ROOT_TOKEN })).status).toBe(200),
    );
  });

  test("far beyond the limit are dropped, those without a handshake among them", async () => {
    const world = await openWorld({ tls: files, maxConnections: 5, metricsPort: 0 });
    let dropped = 0;
    let count = 0;
    for (; dropped === 0 && count < 10 + SURPLUS_CONNECTIONS; count++) {
      const { socket } = tcp(world.port);
      socket.once("close", () => dropped++);
      await once(socket, "connect");
    }
    expect(count).toBeGreaterThan(SURPLUS_CONNECTIONS);
    await vi.waitFor(async () => {
      expect(dropped).toBeGreaterThan(0);
      expect(await metric(world)).toBe(dropped);
    });
  });
});
