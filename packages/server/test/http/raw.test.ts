/** What only a raw socket can send: odd paths, lying lengths, endless bodies; spec/http.md § Paths, § Limits. */

import { connect } from "node:net";

import { RECORD_MEDIA_TYPE } from "@tacenda/protocol";
import { beforeEach, describe, expect, test } from "vitest";

import { ROOT_TOKEN, openWorld, randomRecordPath, sealedRecord, type World } from "../world.js";

const AUTHORIZATION = `Authorization: Bearer ${ROOT_TOKEN}`;

let world: World;

beforeEach(async () => {
  world = await openWorld();
});

/** Sends bytes and gives everything that comes back until the server closes, or the answer's end has arrived. */
function exchange(...parts: (string | Uint8Array)[]): Promise<string> {
  return new Promise((resolve) => {
    let received = "";
    const socket = connect(world.port, "127.0.0.1", () => {
      for (const part of parts) socket.write(part);
    });
    const finish = () => {
      socket.destroy();
      resolve(received);
    };
    socket.setTimeout(3_000, finish);
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1");
      if (isWhole(received)) finish();
    });
    socket.on("error", finish);
    socket.on("close", finish);
  });
}

function isWhole(answer: string): boolean {
  const length = /content-length: (\d+)/i.exec(answer)?.[1];
  const end = answer.indexOf("\r\n\r\n");
  return end !== -1 && length !== undefined && answer.length >= end + 4 + Number(length);
}

function request(line: string, ...headers: string[]): string {
  return `${line} HTTP/1.1\r\nHost: 127.0.0.1\r\n${headers.map((header) => `${header}\r\n`).join("")}\r\n`;
}

const statusOf = (answer: string) => Number(answer.slice(9, 12));
const errorOf = (answer: string) =>
  (JSON.parse(answer.slice(answer.indexOf("\r\n\r\n") + 4)) as { error: { code: string; requestId: string } }).error;

describe("paths", () => {
  test("are not decoded, normalized or merged", async () => {
    const good = "/v1/projects/default/stores";
    expect(statusOf(await exchange(request(`GET ${good}`, AUTHORIZATION)))).toBe(200);
    for (const path of [
      "/v1/projects/default%2Fstores",
      "/v1/projects/default%2fstores",
      "/v1/projects/d%65fault/stores",
      "/v1/%70rojects",
      "/v1/projects/%2e%2e/projects",
      "/v1/projects/../projects",
      "/v1/projects/./default/stores",
      "/v1/x/../projects/default/stores",
      "/v1/projects/other/../default/stores",
      "//v1/projects/default/stores",
      "/v1//projects/default/stores",
      "/v1/projects//stores",
      "/v1/projects/default/stores/",
      "/v1/projects/default/stores/..",
      "/v1/projects/default/stores/one%00",
      "/V1/projects/default/stores",
      "/v1/projects/default/stores/one/records",
      "/v1/projects/default/stores/one/records/",
      "/v1/projects/default/stores/one/records/*",
      "/v1/projects/default/records",
    ]) {
      const answer = await exchange(request(`GET ${path}`, AUTHORIZATION));
      const status = path.endsWith("*") ? 400 : 404;
      expect([path, statusOf(answer), errorOf(answer).code]).toEqual([
        path,
        status,
        status === 400 ? "invalid_request" : "not_found",
      ]);
    }
  });

  test("hold key hashes in their one canonical form", async () => {
    const record = (hash: string) => `GET /v1/projects/default/stores/one/records/${hash}`;
    const canonical = "A".repeat(42);
    expect(errorOf(await exchange(request(record(`${canonical}Q`), AUTHORIZATION))).code).toBe("record_not_found");
    for (const hash of [
      `${canonical}R`,
      `${canonical}B`,
      canonical,
      `${canonical}Q=`,
      `${canonical}QQ`,
      `${canonical}+`,
    ]) {
      const answer = await exchange(request(record(hash), AUTHORIZATION));
      expect([hash, statusOf(answer), errorOf(answer).code]).toEqual([hash, 400, "invalid_request"]);
    }
  });

  test("other methods are no routes", async () => {
    for (const method of ["HEAD", "OPTIONS", "TRACE", "DELETE", "PROPFIND", "POST"]) {
      const answer = await exchange(
        request(`${method} ${randomRecordPath()}`, AUTHORIZATION, "Content-Length: 0", "Connection: close"),
      );
      expect([method, statusOf(answer)]).toEqual([method, 404]);
    }
  });

  test("an impossible Host or target is refused uniformly", async () => {
    const host = await exchange("GET /livez HTTP/1.1\r\nHost: a b/c\r\n\r\n");
    expect([statusOf(host), errorOf(host).code]).toEqual([400, "invalid_request"]);
    const proxied = await exchange(request(`GET http://127.0.0.1/v1/../livez`));
    expect(statusOf(proxied)).toBe(404);
  });
});

describe("bodies", () => {
  const put = (path: string, ...headers: string[]) =>
    request(`PUT ${path}`, AUTHORIZATION, `Content-Type: ${RECORD_MEDIA_TYPE}`, "If-None-Match: *", ...headers);

  test("chunked ones are taken up to the cap and no further", async () => {
    const record = sealedRecord();
    const chunked = (bytes: Uint8Array) => [`${bytes.length.toString(16)}\r\n`, bytes, "\r\n"];
    const small = await exchange(
      put(randomRecordPath(), "Transfer-Encoding: chunked"),
      ...chunked(record),
      "0\r\n\r\n",
    );
    expect(statusOf(small)).toBe(201);
    const part = chunked(new Uint8Array(100_000));
    const parts = Array.from({ length: 12 }, () => part).flat();
    // No last chunk: the answer comes although the body has not ended.
    const big = await exchange(put(randomRecordPath(), "Transfer-Encoding: chunked"), ...parts);
    expect([statusOf(big), errorOf(big).code]).toEqual([413, "body_too_large"]);
  });

  test("ones that are announced too long are refused before they come", async () => {
    const answer = await exchange(put(randomRecordPath(), "Content-Length: 1081436"));
    expect([statusOf(answer), errorOf(answer).code]).toEqual([413, "body_too_large"]);
  });

  test("a length that lies ends the connection, or the body where it says", async () => {
    const record = sealedRecord();
    const short = await exchange(put(randomRecordPath(), "Content-Length: 10"), record);
    expect(short).toBe("");
    const path = randomRecordPath();
    const socket = connect(world.port, "127.0.0.1");
    socket.write(put(path, `Content-Length: ${record.length + 1}`));
    socket.end(record);
    await new Promise((resolve) => socket.on("close", resolve).resume());
    expect((await world.call("GET", path, { token: ROOT_TOKEN })).status).toBe(404);
  });

  test("two ways to say the length are refused uniformly", async () => {
    const record = sealedRecord();
    for (const headers of [
      [`Content-Length: ${record.length}`, "Transfer-Encoding: chunked"],
      [`Content-Length: ${record.length}`, `Content-Length: ${record.length}`],
      [`Content-Length: ${record.length}`, "Content-Length: 5"],
      ["Content-Length: -1"],
      ["Content-Length: 1e3"],
      ["Transfer-Encoding: chunked, identity"],
    ]) {
      const answer = await exchange(put(randomRecordPath(), ...headers), record);
      expect([headers, statusOf(answer), errorOf(answer).code]).toEqual([headers, 400, "invalid_request"]);
      expect(answer).toContain(`tacenda-request-id: ${errorOf(answer).requestId}`);
      expect(answer.toLowerCase()).toContain("cache-control: no-store");
    }
  });

  test("what Node would refuse without a word is refused uniformly", async () => {
    for (const text of [
      "GET /livez HTTP/1.1\r\n\r\n",
      request("GET /livez", "Expect: 200-ok"),
      request(`PUT ${randomRecordPath()}`, AUTHORIZATION, "Expect: the-worst", "Content-Length: 5"),
    ]) {
      const answer = await exchange(text);
      expect([text, statusOf(answer), errorOf(answer).code]).toEqual([text, 400, "invalid_request"]);
      expect(answer).toContain(`tacenda-request-id: ${errorOf(answer).requestId}`);
      expect(answer.toLowerCase()).toContain("cache-control: no-store");
    }
  });

  test("without a token none is read", async () => {
    const line = `PUT ${randomRecordPath()}`;
    const answer = await exchange(request(line, `Content-Type: ${RECORD_MEDIA_TYPE}`, "Content-Length: 1000000"));
    expect(statusOf(answer)).toBe(401);
  });
});
