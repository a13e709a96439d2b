/** Runs the client that was written from the specification alone against the real server, over a socket. */

import { createServer, type RequestListener } from "node:http";
import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { startServer, type RunningServer } from "@tacenda/server";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { MinimalClient } from "./minimal-client.ts";
import { derive, seal } from "./reference.ts";

const ROOT_TOKEN = "root-token-of-a-test-0123456789abcdef";
const SECRET = "a secret of a test, 0123456789abcdef";
const PROJECT = "default";
const STORE = "minimal";

let folder: string;
let server: RunningServer;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tacenda-minimal-"));
  server = await startServer({ dataDir: join(folder, "data"), port: 0, rootToken: ROOT_TOKEN });
  const response = await fetch(`${server.url}/v1/projects/${PROJECT}/stores`, {
    method: "POST",
    headers: { authorization: `Bearer ${ROOT_TOKEN}`, "content-type": "application/json" },
    body: JSON.stringify({ id: STORE }),
  });
  expect(response.status).toBe(201);
});

afterAll(async () => {
  await server.close();
  await rm(folder, { recursive: true, force: true });
});

function client(secret = SECRET, url = server.url): MinimalClient {
  return new MinimalClient({ url, token: ROOT_TOKEN, project: PROJECT, store: STORE, secret });
}

const PLACE = { project: PROJECT, store: STORE };

function keysOf(key: string) {
  return derive({ ...PLACE, secret: SECRET, key, iterations: 100_000, stretch: "key" });
}

/** A record of `key` as an honest client seals it. */
function sealed(key: string, version: number, change: { state?: number; expiresAt?: number } = {}): Buffer {
  const content = { state: 0, expiresAt: 0, kind: 0, sealedAt: Date.now(), metadata: "", value: Buffer.alloc(0) };
  const salt = crypto.getRandomValues(new Uint8Array(32));
  return seal({ ...PLACE, ...keysOf(key) }, version, { ...content, ...change }, salt);
}

/** Gives a client a server that answers every request as told. */
async function withLiar(answer: RequestListener, use: (client: MinimalClient) => Promise<void>): Promise<void> {
  const liar = createServer(answer);
  await new Promise<void>((resolve) => liar.listen(0, "127.0.0.1", resolve));
  try {
    await use(client(SECRET, `http://127.0.0.1:${(liar.address() as AddressInfo).port}`));
  } finally {
    liar.closeAllConnections();
    await new Promise((resolve) => liar.close(resolve));
  }
}

function errorAnswer(status: number, code: string, current?: { version: number; head: string }): RequestListener {
  return (request, response) => {
    request.resume();
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify({ error: { code, message: "", requestId: "", current } }));
  };
}

function headOf(record: Buffer): string {
  return record.subarray(0, 75).toString("base64url");
}

/** Puts a record that the reference sealed, whatever it holds. */
async function putSealed(key: string, version: number, state: number): Promise<number> {
  const path = `/v1/projects/${PROJECT}/stores/${STORE}/records/${keysOf(key).keyHash.toString("base64url")}`;
  const response = await fetch(server.url + path, {
    method: "PUT",
    headers: {
      authorization: `Bearer ${ROOT_TOKEN}`,
      "content-type": "application/octet-stream",
      "if-match": `"${version - 1}"`,
    },
    body: new Uint8Array(sealed(key, version, { state })),
  });
  return response.status;
}

describe("the minimal client", () => {
  test("gives null for a key that was never set", async () => {
    expect(await client().get("absent")).toBeNull();
  });

  test("gives back what it set, and counts versions", async () => {
    expect(await client().set("github:42", "first")).toBe(1);
    expect(await client().set("github:42", "second")).toBe(2);
    expect(await client().get("github:42")).toBe("second");
  });

  test.each(["", "\ufeffmark", "v".repeat(300), "v".repeat(70_000), "clé 鍵 🔑\0"])(
    "carries a value of any length (%#)",
    async (text) => {
      const key = `value of ${text.length}`;
      await client().set(key, text);
      expect(await client().get(key)).toBe(text);
    },
  );

  test("lets concurrent writers both succeed, one after the other", async () => {
    const versions = await Promise.all([client().set("shared", "a"), client().set("shared", "b")]);
    expect(versions.sort()).toEqual([1, 2]);
  });

  test("gives null once a value has expired, and writes on after the expired version", async () => {
    await client().set("brief", "soon gone", { expiresAt: Date.now() + 50 });
    await new Promise((resolve) => setTimeout(resolve, 80));
    expect(await client().get("brief")).toBeNull();
    expect(await client().set("brief", "again")).toBe(2);
    expect(await client().get("brief")).toBe("again");
  });

  test("gives null after a tombstone, and writes on after it", async () => {
    await client().set("deleted", "value");
    expect(await putSealed("deleted", 2, 1)).toBe(200);
    expect(await client().get("deleted")).toBeNull();
    expect(await client().set("deleted", "back")).toBe(3);
  });

  test("stops at a moved mark", async () => {
    await client().set("moved", "value");
    expect(await putSealed("moved", 2, 2)).toBe(200);
    await expect(client().get("moved")).rejects.toThrow("secret was changed");
    await expect(client().set("moved", "overwritten")).rejects.toThrow("secret was changed");
  });

  test("does not see what another secret wrote", async () => {
    await client().set("mine", "value");
    expect(await client("another secret of a test, 9876543210").get("mine")).toBeNull();
  });

  test("throws when the token is refused", async () => {
    const options = { url: server.url, token: "nobody", project: PROJECT, store: STORE, secret: SECRET };
    await expect(new MinimalClient(options).get("any")).rejects.toThrow("401");
  });
});

describe("the minimal client and a server that lies", () => {
  test("does not write on an unproven version", async () => {
    const current = { version: Number.MAX_SAFE_INTEGER - 1, head: headOf(sealed("key", 1)) };
    await withLiar(errorAnswer(412, "version_conflict", current), async (victim) => {
      await expect(victim.set("key", "value")).rejects.toThrow("does not open");
    });
  });

  test("does not believe an expiry that nobody sealed", async () => {
    const current = { version: 1, head: headOf(sealed("key", 1)) };
    await withLiar(errorAnswer(410, "record_expired", current), async (victim) => {
      await expect(victim.get("key")).rejects.toThrow("410");
    });
  });

  test.each([
    ["another key's record", () => sealed("other", 1), '"1"'],
    ["another version's record", () => sealed("key", 1), '"2"'],
    ["a record without a version", () => sealed("key", 1), "1"],
    ["a head alone", () => sealed("key", 1).subarray(0, 75), '"1"'],
    ["nothing", () => Buffer.alloc(0), '"1"'],
  ])("does not open %s", async (_, record, etag) => {
    const answer: RequestListener = (_request, response) => response.writeHead(200, { etag }).end(record());
    await withLiar(answer, async (victim) => {
      await expect(victim.get("key")).rejects.toThrow(/does not open|not supported/);
    });
  });

  test("does not take a failure for absence", async () => {
    await withLiar(errorAnswer(404, "not_found"), async (victim) => {
      await expect(victim.get("key")).rejects.toThrow("404");
    });
  });
});
