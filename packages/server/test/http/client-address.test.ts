/** Whose word is taken for where a request comes from; spec/http.md § Client addresses. */

import { once } from "node:events";
import { IncomingMessage, request } from "node:http";
import { Socket } from "node:net";

import { describe, expect, test } from "vitest";

import { createAddressOf, parseNetworks } from "../../src/http/client-address.js";
import type { AccessEvent } from "../../src/http/dispatch.js";
import { InvalidOptionError } from "../../src/startup-error.js";
import { openWorld } from "../world.js";

/** What is made of a request over a connection from `peer` with this header. */
function addressFrom(trusted: readonly string[], peer: string | undefined, forwarded?: string): string | undefined {
  const socket = Object.defineProperty(new Socket(), "remoteAddress", { value: peer });
  const incoming = new IncomingMessage(socket);
  if (forwarded !== undefined) incoming.headers = { "x-forwarded-for": forwarded };
  return createAddressOf(trusted)(incoming);
}

const PROXIES = ["10.0.0.0/8", "192.0.2.7", "fd00::/8"];

describe("the address", () => {
  test("is the connection's, whatever a header says, unless that is a trusted proxy's", () => {
    expect(addressFrom([], "10.0.0.1", "198.51.100.1")).toBe("10.0.0.1");
    expect(addressFrom(PROXIES, "203.0.113.5", "198.51.100.1")).toBe("203.0.113.5");
    expect(addressFrom(PROXIES, "192.0.2.8", "198.51.100.1")).toBe("192.0.2.8");
    expect(addressFrom(PROXIES, "10.0.0.1", "198.51.100.1")).toBe("198.51.100.1");
    expect(addressFrom(PROXIES, "fd12::1", "2001:db8::1")).toBe("2001:db8::1");
    expect(addressFrom(PROXIES, "10.0.0.1")).toBe("10.0.0.1");
    expect(addressFrom(PROXIES, undefined, "198.51.100.1")).toBeUndefined();
    expect(createAddressOf(PROXIES)(undefined)).toBeUndefined();
  });

  test("is the last one that a trusted proxy wrote, and not what the client made up before it", () => {
    expect(addressFrom(PROXIES, "10.0.0.1", "1.1.1.1, 10.0.0.3, 198.51.100.1")).toBe("198.51.100.1");
    expect(addressFrom(PROXIES, "10.0.0.1", "1.1.1.1, 198.51.100.1, 192.0.2.7,10.0.0.3")).toBe("198.51.100.1");
    expect(addressFrom(PROXIES, "10.0.0.1", "10.0.0.2, 10.0.0.3")).toBe("10.0.0.2");
  });

  test("is the proxy's where that wrote no address", () => {
    for (const rubbish of ["", "unknown", "198.51.100.1:80", "fe80::1%eth0", "300.1.1.1", "a".repeat(9_000)]) {
      expect(addressFrom(PROXIES, "10.0.0.1", rubbish)).toBe("10.0.0.1");
      expect(addressFrom(PROXIES, "10.0.0.1", `198.51.100.1, ${rubbish}, 192.0.2.7`)).toBe("192.0.2.7");
    }
  });

  test("of a socket for both kinds is an IPv4 address where it is one", () => {
    expect(addressFrom([], "::ffff:10.0.0.1")).toBe("10.0.0.1");
    expect(addressFrom(PROXIES, "::ffff:10.0.0.1", "::ffff:198.51.100.1")).toBe("198.51.100.1");
    expect(addressFrom(["::ffff:192.0.2.0/120"], "::ffff:192.0.2.1", "198.51.100.1")).toBe("198.51.100.1");
  });
});

test("what is no address and no network is refused by name", () => {
  for (const entry of [
    "",
    "10.0.0",
    "10.0.0.0/33",
    "fd00::/129",
    "10.0.0.1/",
    "10.0.0.1/8/8",
    "proxy",
    "fe80::1%eth0",
  ]) {
    expect(() => parseNetworks(["10.0.0.1", entry])).toThrow(InvalidOptionError);
    expect(() => parseNetworks([entry])).toThrow(`"${entry}" is no address and no network`);
  }
  expect(parseNetworks(["0.0.0.0/0"]).check("203.0.113.1")).toBe(true);
});

describe("a running server", () => {
  /** Asks with forged headers, once, and gives what the log and the access hook were told. */
  async function told(trustedProxies?: readonly string[]) {
    const events: AccessEvent[] = [];
    const lines: unknown[] = [];
    const log = (fields: object, message: string) => {
      if (message === "request" && "address" in fields) lines.push(fields.address);
    };
    const world = await openWorld({
      onAccess: (event) => void events.push(event),
      logger: { debug: log, info: log, warn: log, error: log },
      ...(trustedProxies && { trustedProxies }),
    });
    lines.length = events.length = 0;
    const headers = {
      "x-forwarded-for": ["1.1.1.1", "198.51.100.1"],
      "x-real-ip": "1.1.1.2",
      forwarded: "for=1.1.1.3;proto=https",
      "x-forwarded-proto": "https",
      authorization: "Bearer nothing",
    };
    const sent = request(`${world.url}/v1/token`, { headers }).end();
    const [answer] = (await once(sent, "response")) as [IncomingMessage];
    answer.resume();
    expect(answer.statusCode).toBe(401);
    expect(events.map(({ address }) => address)).toEqual(lines);
    return lines;
  }

  test("tells the connection's address, and ignores what headers say of it", async () => {
    expect(await told()).toEqual(["127.0.0.1"]);
    expect(await told([])).toEqual(["127.0.0.1"]);
    expect(await told(["10.0.0.0/8"])).toEqual(["127.0.0.1"]);
  });

  test("believes a trusted proxy, of several of its headers the last", async () => {
    expect(await told(["127.0.0.0/8"])).toEqual(["198.51.100.1"]);
  });

  test("does not start with what it cannot understand", async () => {
    await expect(openWorld({ trustedProxies: ["10.0.0.0/33"] })).rejects.toThrow(InvalidOptionError);
  });
});
