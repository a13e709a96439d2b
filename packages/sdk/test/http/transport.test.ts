import { inspect } from "node:util";
import { gzipSync } from "node:zlib";

import { describe, expect, test, vi } from "vitest";

import { ProtocolError, RequestTimeoutError, ServerUnreachableError, type TacendaError } from "../../src/errors.js";
import { errorOf } from "../../src/http/answer.js";
import { type OutgoingRequest, Transport, type TransportOptions } from "../../src/http/transport.js";
import { errorJson, serve } from "./serve.js";

const TOKEN = "canary-token-that-must-not-be-seen-anywhere";

function transport(url: string, options: Partial<TransportOptions> = {}) {
  return new Transport({ url, token: TOKEN, timeout: 5_000, maxAttempts: 3, ...options });
}

const GET: OutgoingRequest = { method: "GET", path: "v1/x", maxBytes: 1_000 };
const PUT: OutgoingRequest = { method: "PUT", path: "v1/x", body: new Uint8Array([1, 2, 3]), maxBytes: 0 };

/** The error of a promise that must reject; it and everything in it must not show the token. */
async function rejection(promise: Promise<unknown>): Promise<TacendaError> {
  const error = await promise.then(
    () => expect.fail("must reject"),
    (error: unknown) => error as TacendaError,
  );
  expect(inspect(error, { depth: 10, showHidden: true })).not.toContain(TOKEN);
  return error;
}

describe("what is sent", () => {
  test("the token goes in the header, the body as it is, and nothing is followed or decoded twice", async () => {
    const bodies: Buffer[] = [];
    await using server = await serve((request, response) => {
      request.on("data", (chunk: Buffer) => bodies.push(chunk));
      request.on("end", () => response.setHeader("x-auth", request.headers.authorization ?? "").end());
    });
    const answer = await transport(server.url).send(PUT);
    expect(answer.headers.get("x-auth")).toBe(`Bearer ${TOKEN}`);
    expect(Buffer.concat(bodies)).toEqual(Buffer.from([1, 2, 3]));
    expect(answer.resent).toBe(false);
  });
});

describe("hostile answers (T21)", () => {
  test.each([301, 302, 303, 307, 308])("a redirect with status %d is never followed", async (status) => {
    await using target = await serve((_, response) => response.end("stolen"));
    await using server = await serve((_, response) => response.writeHead(status, { location: target.url }).end());
    const answer = await transport(server.url).send(GET);
    expect(errorOf(answer)).toBeInstanceOf(ProtocolError);
    expect(errorOf(answer).message).toContain("redirect");
    expect(target.seen).toEqual([]);
    expect(server.seen).toHaveLength(1);
  });

  test("an endless body ends at the cap", async () => {
    await using server = await serve((_, response) => {
      const chunk = Buffer.alloc(65_536);
      const pour = () => {
        while (!response.destroyed && response.write(chunk)) continue;
      };
      response.on("drain", pour);
      pour();
    });
    expect(await rejection(transport(server.url).send(GET))).toBeInstanceOf(ProtocolError);
  });

  test("a body that grows when decompressed ends at the cap", async () => {
    await using server = await serve((_, response) =>
      response.setHeader("content-encoding", "gzip").end(gzipSync(Buffer.alloc(10_000_000))),
    );
    expect(await rejection(transport(server.url).send(GET))).toBeInstanceOf(ProtocolError);
  });

  test("a body that stalls after its first byte ends with the timeout", async () => {
    await using server = await serve((_, response) => response.writeHead(200, { "content-length": "100" }).write("x"));
    const error = await rejection(transport(server.url, { timeout: 200 }).send(GET));
    expect(error).toBeInstanceOf(RequestTimeoutError);
    expect(error.retryable).toBe(true);
  });

  test("a huge Retry-After does not outlast the timeout: the answer is final at once", async () => {
    await using server = await serve((_, response) => response.writeHead(503, { "retry-after": "3600" }).end());
    const answer = await transport(server.url).send(GET);
    expect(answer.status).toBe(503);
    expect(server.seen).toHaveLength(1);
  });

  test("an error's message and odd request ids are never quoted", async () => {
    await using server = await serve((_, response) => response.writeHead(500).end(errorJson("internal", TOKEN)));
    const error = errorOf(await transport(server.url).send(GET));
    expect(error.code).toBe("server_fault");
    expect(error.requestId).toBeUndefined();
    expect(error.message).not.toContain("hostile");
  });

  test("of a project or store that is not there the error says how a project is named", async () => {
    await using server = await serve((_, response) => response.writeHead(404).end(errorJson("not_found")));
    const error = errorOf(await transport(server.url).send(GET));
    expect(error.code).toBe("store_not_found");
    expect(error.message).toContain("{ project } or TACENDA_PROJECT");
  });

  test("a code with another code's status is not believed", async () => {
    await using server = await serve((_, response) => response.writeHead(404).end(errorJson("record_expired")));
    expect(errorOf(await transport(server.url).send(GET)).code).toBe("protocol");
  });

  test.each(["<html>", "null", "[]", '{"error":null}', '{"error":{"code":"__proto__"}}', "\u00ff"])(
    "a 404 with body %s is no Tacenda answer",
    async (body) => {
      await using server = await serve((_, response) => response.writeHead(404).end(body));
      expect(errorOf(await transport(server.url).send(GET)).code).toBe("protocol");
    },
  );
});

describe("sending again", () => {
  test("a read whose connection is cut is sent again", async () => {
    await using server = await serve((request, response, count) =>
      count < 3 ? request.socket.destroy() : response.end("ok"),
    );
    const answer = await transport(server.url).send(GET);
    expect(Buffer.from(answer.bytes).toString()).toBe("ok");
    expect(server.seen).toHaveLength(3);
  });

  test("a write whose answer is lost is sent again, and says so", async () => {
    await using server = await serve((request, response, count) =>
      count < 2 ? request.socket.destroy() : response.end(),
    );
    expect(await transport(server.url).send(PUT)).toMatchObject({ status: 200, resent: true });
  });

  test("a write that the server refused unread is sent again and in no doubt", async () => {
    await using server = await serve((_, response, count) =>
      count < 2 ? response.writeHead(503).end(errorJson("overloaded")) : response.end(),
    );
    expect(await transport(server.url).send(PUT)).toMatchObject({ status: 200, resent: false });
  });

  test("after a proxy's 502 a write is in doubt", async () => {
    await using server = await serve((_, response, count) =>
      count < 2 ? response.writeHead(502).end() : response.end(),
    );
    expect(await transport(server.url).send(PUT)).toMatchObject({ status: 200, resent: true });
  });

  test("an early Retry-After does not shorten the back-off", async () => {
    const times: number[] = [];
    await using server = await serve((_, response) => {
      times.push(performance.now());
      response.writeHead(503, { "retry-after": "0" }).end();
    });
    const random = vi.spyOn(Math, "random").mockReturnValue(1);
    await transport(server.url).send(GET);
    random.mockRestore();
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(150);
  });

  test("a Retry-After within the timeout is waited for, and a little more", async () => {
    const times: number[] = [];
    await using server = await serve((_, response, count) => {
      times.push(performance.now());
      if (count > 1) response.end();
      else response.writeHead(429, { "retry-after": "1" }).end(errorJson("rate_limited"));
    });
    const random = vi.spyOn(Math, "random").mockReturnValue(0.5);
    expect(await transport(server.url).send(PUT)).toMatchObject({ status: 200, resent: false });
    random.mockRestore();
    // A timer may come a millisecond early.
    expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThan(1_090);
  });

  test.each([
    [503, "overloaded", "overloaded"],
    [429, "rate_limited", "rate_limited"],
    [503, null, "overloaded"],
    [429, null, "rate_limited"],
  ] as const)(
    "a %d with code %s that goes on is a typed error that says how long to wait",
    async (status, code, expected) => {
      await using server = await serve((_, response) =>
        response.writeHead(status, { "retry-after": "1" }).end(code === null ? "busy" : errorJson(code)),
      );
      const error = errorOf(await transport(server.url, { maxAttempts: 2 }).send(GET));
      expect(error).toMatchObject({ code: expected, retryable: true, retryAfter: 1_000 });
      if (code === "overloaded") expect(error.message).toMatch(/database is away; nothing was written.*`requestId`/);
      expect(server.seen).toHaveLength(2);
    },
  );

  test.each(["soon", "-1", "1.5", "1e3", "99999999", "Wed, 21 Oct 2065 07:28:00 GMT"])(
    "a Retry-After of %s is as good as none",
    async (text) => {
      await using server = await serve((_, response) => response.writeHead(503, { "retry-after": text }).end());
      const answer = await transport(server.url).send(GET);
      expect(server.seen).toHaveLength(3);
      expect(errorOf(answer)).toMatchObject({ code: "overloaded", retryAfter: undefined });
    },
  );

  test("a proxy's long error page is an answer like its short one", async () => {
    await using server = await serve((_, response, count) =>
      count < 2 ? response.writeHead(502).end("<p>".repeat(20_000)) : response.end(),
    );
    expect(await transport(server.url).send(GET)).toMatchObject({ status: 200 });
  });

  test("no answer to a write leaves open whether it happened, unless it was never sent", async () => {
    await using server = await serve((request) => request.socket.destroy());
    expect(await rejection(transport(server.url).send(PUT))).toMatchObject({ mayHaveHappened: true });
    expect(await rejection(transport(server.url).send(GET))).toMatchObject({ mayHaveHappened: false });
    await server[Symbol.asyncDispose]();
    expect(await rejection(transport(server.url).send(PUT))).toMatchObject({ mayHaveHappened: false });
  });

  test.each(["EHOSTUNREACH", "ENETUNREACH", "ECONNRESET", "EPIPE"])("%s leaves a write in doubt", async (code) => {
    let count = 0;
    const fetch = () => {
      if (++count > 1) return Promise.resolve(new Response(null, { status: 201 }));
      return Promise.reject(new TypeError("fetch failed", { cause: Object.assign(new Error(code), { code }) }));
    };
    expect(await transport("http://127.0.0.1:1", { fetch }).send(PUT)).toMatchObject({ resent: true });
  });

  test("a POST that may have made something is not sent again", async () => {
    await using server = await serve((request) => request.socket.destroy());
    await rejection(transport(server.url).send({ ...PUT, method: "POST" }));
    expect(server.seen).toHaveLength(1);
  });

  test("attempts are finite", async () => {
    await using server = await serve((request) => request.socket.destroy());
    const error = await rejection(transport(server.url).send(GET));
    expect(error).toBeInstanceOf(ServerUnreachableError);
    expect(server.seen).toHaveLength(3);
  });

  test("no server at all: the error names the network's reason", async () => {
    await using server = await serve(() => undefined);
    await server[Symbol.asyncDispose]();
    const error = await rejection(transport(server.url).send(GET));
    expect(error).toBeInstanceOf(ServerUnreachableError);
    expect(error.message).toContain("ECONNREFUSED");
  });

  test.each([
    "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
    "SELF_SIGNED_CERT_IN_CHAIN",
    "DEPTH_ZERO_SELF_SIGNED_CERT",
    "ERR_TLS_CERT_ALTNAME_INVALID",
    "CERT_HAS_EXPIRED",
  ])("a certificate that is not trusted (%s) is called that, and not tried again", async (code) => {
    let count = 0;
    const fetch = () => {
      count++;
      const cause = new Error("wrapped", { cause: Object.assign(new Error(code), { code }) });
      return Promise.reject(new TypeError("fetch failed", { cause }));
    };
    const error = await rejection(transport("https://127.0.0.1:1", { fetch }).send(PUT));
    expect(error).toBeInstanceOf(ServerUnreachableError);
    expect(error).toMatchObject({ retryable: false, mayHaveHappened: false });
    expect(error.message).toBe(
      `The server's certificate is not trusted (${code}): on Node, set NODE_EXTRA_CA_CERTS to the authority's file; the name in \`url\` must be in the certificate.`,
    );
    expect(count).toBe(1);
  });

  test("a certificate that has expired since the attempt before leaves the write of that one in doubt", async () => {
    let count = 0;
    const fetch = () => {
      const code = ++count > 1 ? "CERT_HAS_EXPIRED" : "ECONNRESET";
      return Promise.reject(new TypeError("fetch failed", { cause: Object.assign(new Error(code), { code }) }));
    };
    const error = await rejection(transport("https://127.0.0.1:1", { fetch }).send(PUT));
    expect(error).toMatchObject({ retryable: false, mayHaveHappened: true });
    expect(error.message).toContain("The write may have happened");
    expect(count).toBe(2);
  });

  test("a connection over http that is closed without an answer may be to a server that speaks HTTPS", async () => {
    await using server = await serve((request) => request.socket.destroy());
    const error = await rejection(transport(server.url, { maxAttempts: 1 }).send(GET));
    expect(error.message).toMatch(/\((UND_ERR_SOCKET|ECONNRESET)\).*If it serves HTTPS, write https:\/\/\.$/);
    expect(error.retryable).toBe(true);
    const cause = Object.assign(new Error("reset"), { code: "ECONNRESET" });
    const fetch = () => Promise.reject(new TypeError("fetch failed", { cause }));
    const other = await rejection(transport("https://127.0.0.1:1", { fetch, maxAttempts: 1 }).send(GET));
    expect(other.message).not.toContain("HTTPS");
    await server[Symbol.asyncDispose]();
    expect((await rejection(transport(server.url).send(GET))).message).not.toContain("HTTPS");
  });

  test.each([200, 400, 401, 403, 404, 409, 412, 500, 507])("status %d is final", async (status) => {
    await using server = await serve((_, response) => response.writeHead(status).end());
    expect((await transport(server.url).send(GET)).status).toBe(status);
    expect(server.seen).toHaveLength(1);
  });
});

describe("ending early", () => {
  test("the caller's signal ends a call with the caller's reason", async () => {
    await using server = await serve(() => undefined);
    const reason = new Error("enough");
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 50);
    await expect(transport(server.url).send({ ...GET, signal: controller.signal })).rejects.toBe(reason);
  });

  test("a signal that has aborted already sends nothing", async () => {
    await using server = await serve((_, response) => response.end());
    await expect(transport(server.url).send({ ...GET, signal: AbortSignal.abort() })).rejects.toThrow();
    expect(server.seen).toEqual([]);
  });

  test("a given fetch that ignores its signal still ends with the timeout", async () => {
    const fetch = () => new Promise<Response>(() => undefined);
    const error = await rejection(transport("http://127.0.0.1:1", { fetch, timeout: 100 }).send(GET));
    expect(error).toBeInstanceOf(RequestTimeoutError);
  });

  test("the call's timeout overrides the client's", async () => {
    await using server = await serve(() => undefined);
    expect(await rejection(transport(server.url).send({ ...GET, timeout: 100 }))).toBeInstanceOf(RequestTimeoutError);
  });
});
