/** What happens beyond what the server takes on: requests, bytes, connections; spec/http.md § Overload. */

import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import BetterSqlite3 from "better-sqlite3";
import { MAX_RECORD_BYTES, RECORD_MEDIA_TYPE, encodeKeyHash } from "@tacenda/protocol";
import { describe, expect, onTestFinished, test, vi } from "vitest";

import { SURPLUS_CONNECTIONS } from "../../src/http/surplus.js";
import { ROOT_TOKEN, errorCode, openWorld, randomRecordPath, sealedRecord, type World } from "../world.js";

const ROOT = { token: ROOT_TOKEN };
const CREATE = { "content-type": RECORD_MEDIA_TYPE, "if-none-match": "*" };
const STORE = "/v1/projects/default/stores/one";
/** Of which no room has to be reserved. */
const SMALL = 65_536;

const put = (world: World, path = randomRecordPath(), length?: number) =>
  world.call("PUT", path, { ...ROOT, headers: CREATE, body: sealedRecord(length === undefined ? {} : { length }) });

async function expectOverloaded(answer: Response): Promise<void> {
  expect([answer.status, answer.headers.get("retry-after"), await errorCode(answer)]).toEqual([503, "1", "overloaded"]);
}

/** Keeps writers out of the database, as another process would. */
function blockWrites(world: World): () => void {
  const other = new BetterSqlite3(join(world.folder, "data", "tacenda.db"));
  other.exec("begin immediate");
  onTestFinished(() => void other.close());
  return () => void other.exec("rollback");
}

/** A connection on which bytes are sent as they are, and what came back so far. */
async function open({ port }: World): Promise<{ socket: Socket; received: () => string }> {
  const socket = connect(port, "127.0.0.1").on("error", () => undefined);
  onTestFinished(() => void socket.destroy());
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString("latin1")));
  await once(socket, "connect");
  return { socket, received: () => text };
}

function putHead(length: number | "chunked"): string {
  const framing = length === "chunked" ? "Transfer-Encoding: chunked" : `Content-Length: ${length}`;
  const headers = { Host: "a", Authorization: `Bearer ${ROOT_TOKEN}`, "Content-Type": RECORD_MEDIA_TYPE };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `PUT ${randomRecordPath()} HTTP/1.1\r\n${lines.join("")}If-None-Match: *\r\n${framing}\r\n\r\n`;
}

async function metric(world: World, name: string): Promise<number> {
  const text = await (await fetch(world.metricsUrl ?? "")).text();
  return Number(new RegExp(`^${name} (.*)$`, "m").exec(text)?.[1]);
}

describe("requests", () => {
  test("beyond those worked on wait, and are told to come back; other kinds go on", async () => {
    const world = await openWorld({ maxRequests: 2, metricsPort: 0 });
    const path = randomRecordPath();
    await put(world, path);
    const unblock = blockWrites(world);
    const stuck = [put(world), put(world)];
    await vi.waitFor(async () => expect(await metric(world, "tacenda_requests_working")).toBe(2));
    const refused = [put(world), put(world), put(world)];
    await vi.waitFor(async () => expect(await metric(world, "tacenda_requests_waiting")).toBe(3));
    expect((await world.call("GET", path, ROOT)).status).toBe(200);
    expect((await world.call("GET", "/v1/projects/default/stores", ROOT)).status).toBe(200);
    expect((await world.call("GET", "/readyz")).status).toBe(200);
    for (const answer of await Promise.all(refused)) await expectOverloaded(answer);
    unblock();
    for (const answer of await Promise.all(stuck)) expect(answer.status).toBe(201);
    expect((await put(world)).status).toBe(201);
    expect(await metric(world, "tacenda_requests_shed_total")).toBe(3);
    expect(await metric(world, "tacenda_requests_working")).toBe(0);
    expect(await metric(world, "tacenda_requests_waiting")).toBe(0);
  });

  test("that find the database locked by another process wait for it, while others are answered", async () => {
    const world = await openWorld();
    const path = randomRecordPath();
    await put(world, path);
    const unblock = blockWrites(world);
    const stuck = put(world);
    await sleep(200);
    for (let count = 0; count < 20; count++) expect((await world.call("GET", path, ROOT)).status).toBe(200);
    unblock();
    expect((await stuck).status).toBe(201);
  });

  test("that find it locked for long are told to come back, and nothing was written", async () => {
    const world = await openWorld();
    const unblock = blockWrites(world);
    const path = randomRecordPath();
    await expectOverloaded(await put(world, path));
    unblock();
    expect((await world.call("GET", path, ROOT)).status).toBe(404);
    expect((await put(world, path)).status).toBe(201);
  });
});

describe("large bodies", () => {
  /** A bit more than one of them has room. */
  const bodyMemory = 3 * MAX_RECORD_BYTES;

  test("wait for room, and are told to come back; small ones go on", async () => {
    const world = await openWorld({ bodyMemory, metricsPort: 0 });
    const slow = await open(world);
    slow.socket.write(putHead(MAX_RECORD_BYTES));
    slow.socket.write(Buffer.alloc(2 * SMALL));
    await vi.waitFor(async () => expect(await metric(world, "tacenda_body_memory_bytes")).toBe(2 * MAX_RECORD_BYTES));
    await expectOverloaded(await put(world, randomRecordPath(), MAX_RECORD_BYTES));
    const chunked = await open(world);
    chunked.socket.write(putHead("chunked"));
    chunked.socket.write(`20000\r\n${"x".repeat(0x20000)}\r\n`);
    await vi.waitFor(async () => expect(await metric(world, "tacenda_requests_waiting")).toBe(1));
    chunked.socket.write("0\r\n\r\n");
    await vi.waitFor(() => expect(chunked.received()).toMatch(/^HTTP\/1.1 503 [^]*"overloaded"/), 5_000);
    expect((await put(world, randomRecordPath(), SMALL)).status).toBe(201);
    slow.socket.destroy();
    await vi.waitFor(async () => expect(await metric(world, "tacenda_body_memory_bytes")).toBe(0));
    expect((await put(world, randomRecordPath(), MAX_RECORD_BYTES)).status).toBe(201);
    expect(await metric(world, "tacenda_body_memory_bytes")).toBe(0);
  });

  test("that are announced and do not come take no room", async () => {
    const world = await openWorld({ bodyMemory });
    for (let count = 0; count < 20; count++) {
      const { socket } = await open(world);
      socket.write(putHead(MAX_RECORD_BYTES));
      socket.write(Buffer.alloc(100));
    }
    expect((await put(world, randomRecordPath(), MAX_RECORD_BYTES)).status).toBe(201);
  });

  test("of clients that go away while they wait leave no room taken", async () => {
    const world = await openWorld({ bodyMemory, metricsPort: 0 });
    const slow = await open(world);
    slow.socket.write(putHead(MAX_RECORD_BYTES));
    slow.socket.write(Buffer.alloc(2 * SMALL));
    await vi.waitFor(async () => expect(await metric(world, "tacenda_body_memory_bytes")).toBeGreaterThan(0));
    for (let count = 0; count < 5; count++) {
      const { socket } = await open(world);
      socket.write(putHead(MAX_RECORD_BYTES));
      socket.write(Buffer.alloc(2 * SMALL));
      await vi.waitFor(async () => expect(await metric(world, "tacenda_requests_waiting")).toBeGreaterThan(0));
      socket.destroy();
    }
    slow.socket.destroy();
    await vi.waitFor(async () => expect(await metric(world, "tacenda_body_memory_bytes")).toBe(0), 5_000);
    expect((await put(world, randomRecordPath(), MAX_RECORD_BYTES)).status).toBe(201);
  });
});

test("a client that goes away while its body waits for room, which never comes, does no harm", async () => {
  const rejections: unknown[] = [];
  const note = (error: unknown) => void rejections.push(error);
  process.on("unhandledRejection", note);
  onTestFinished(() => void process.off("unhandledRejection", note));
  const world = await openWorld({ bodyMemory: 2 * MAX_RECORD_BYTES, metricsPort: 0 });
  for (const stays of [true, false]) {
    const { socket } = await open(world);
    socket.write(putHead(MAX_RECORD_BYTES));
    socket.write(Buffer.alloc(2 * SMALL));
    const sign = stays ? "tacenda_body_memory_bytes" : "tacenda_requests_waiting";
    await vi.waitFor(async () => expect(await metric(world, sign)).toBeGreaterThan(0));
    if (!stays) socket.destroy();
  }
  await vi.waitFor(async () => expect(await metric(world, "tacenda_requests_waiting")).toBe(0), 5_000);
  await sleep(100);
  expect(rejections).toEqual([]);
});

test("large answers that nobody takes are bounded; small ones are given all the same", async () => {
  const world = await openWorld({ bodyMemory: 12_000_000, metricsPort: 0 });
  const keys = Array.from({ length: 5 }, (_, index) => encodeKeyHash(new Uint8Array(32).fill(index)));
  for (const key of keys) await put(world, `${STORE}/records/${key}`, MAX_RECORD_BYTES);
  const small = randomRecordPath();
  await put(world, small);
  const body = JSON.stringify({ reads: keys.map((key) => ({ key })) });
  const ask = async () => {
    const { socket } = await open(world);
    socket.pause();
    socket.write(
      `POST ${STORE}/batch HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${ROOT_TOKEN}\r\n` +
        `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    return socket;
  };
  // What is in the system's own buffers has been given away.
  const idle = [await ask(), await ask()];
  await vi.waitFor(
    async () => expect(await metric(world, "tacenda_body_memory_bytes")).toBeGreaterThan(5_000_000),
    5_000,
  );
  const read = () => world.call("POST", `${STORE}/batch`, { ...ROOT, json: { reads: keys.map((key) => ({ key })) } });
  await expectOverloaded(await read());
  expect((await world.call("GET", small, ROOT)).status).toBe(200);
  for (const socket of idle) socket.destroy();
  await vi.waitFor(async () => expect(await metric(world, "tacenda_body_memory_bytes")).toBe(0));
  expect((await read()).status).toBe(200);
});

describe("connections", () => {
  test("beyond the limit are told to come back, and closed; health is told all the same", async () => {
    const world = await openWorld({ maxConnections: 5, metricsPort: 0 });
    const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${ROOT_TOKEN}\r\n\r\n`;
    const kept: Awaited<ReturnType<typeof open>>[] = [];
    for (;;) {
      const one = await open(world);
      one.socket.write(get("/v1/token"));
      await vi.waitFor(() => expect(one.received()).toContain("}"));
      if (one.received().startsWith("HTTP/1.1 503")) break;
      kept.push(one);
    }
    // The world's own calls have some of the five.
    expect(kept.length).toBeGreaterThan(0);
    expect(kept.length).toBeLessThan(5);
    const ask = async (request: string, body?: Uint8Array) => {
      const { socket, received } = await open(world);
      socket.write(request);
      if (body) socket.write(body);
      await once(socket, "close");
      return received();
    };
    expect(await ask(get("/v1/token"))).toMatch(/^HTTP\/1.1 503 [^]*retry-after: 1\r\n[^]*"overloaded"/i);
    expect(await ask(putHead(MAX_RECORD_BYTES), sealedRecord({ length: MAX_RECORD_BYTES }))).toMatch(
      /^HTTP\/1.1 503 [^]*"overloaded"/,
    );
    expect(await ask(get("/livez"))).toMatch(/^HTTP\/1.1 200 [^]*connection: close\r\n[^]*"live"/i);
    expect(await ask(get("/readyz"))).toMatch(/^HTTP\/1.1 200 /);
    for (const { socket, received } of kept) {
      socket.write(get("/v1/token"));
      await vi.waitFor(() => expect(received().match(/HTTP\/1.1 200 /g)).toHaveLength(2));
    }
    for (const { socket } of kept) socket.destroy();
    await vi.waitFor(async () => expect((await world.call("GET", "/v1/token", ROOT)).status).toBe(200));
    expect(await metric(world, "tacenda_connections_dropped_total")).toBe(0);
  });

  test("far beyond the limit are dropped, and counted", async () => {
    const world = await openWorld({ maxConnections: 5, metricsPort: 0 });
    let dropped = 0;
    let count = 0;
    for (; dropped === 0 && count < 10 + SURPLUS_CONNECTIONS; count++) {
      const { socket } = await open(world);
      socket.once("close", () => dropped++);
    }
    expect(count).toBeGreaterThan(SURPLUS_CONNECTIONS);
    await vi.waitFor(async () => {
      expect(dropped).toBeGreaterThan(0);
      expect(await metric(world, "tacenda_connections_dropped_total")).toBe(dropped);
    });
  });

  test("have room for headers of 16 KiB", async () => {
    const world = await openWorld();
    const ask = async (bytes: number) => {
      const { socket, received } = await open(world);
      socket.write(`GET /livez HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(bytes)}\r\n\r\n`);
      await vi.waitFor(() => expect(received()).toContain("\r\n\r\n"));
      return received();
    };
    expect(await ask(16_000)).toMatch(/^HTTP\/1.1 200 /);
    expect(await ask(16_400)).toMatch(/^HTTP\/1.1 400 [^]*"invalid_request"/);
  });
});
