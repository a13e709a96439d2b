/** Where a request comes from: its connection's other end, or what proxies that are trusted say of it; spec/http.md § Client addresses. */

import type { IncomingMessage } from "node:http";
import { BlockList, isIP } from "node:net";

import { InvalidOptionError } from "../startup-error.js";

/** The client's address; undefined where there is no connection, or none any more. */
export type AddressOf = (incoming: IncomingMessage | undefined) => string | undefined;

const FORWARDED = "x-forwarded-for";

/** Parses addresses and networks such as `10.0.0.0/8` or `fd00::1`. @throws {InvalidOptionError} naming what is neither */
export function parseNetworks(entries: readonly string[]): BlockList {
  const list = new BlockList();
  for (const entry of entries) {
    const [, address = "", prefix] = /^([0-9a-f.:]+)(?:\/([0-9]{1,3}))?$/i.exec(entry) ?? [];
    const [family, bits] = isIP(address) === 6 ? (["ipv6", 128] as const) : (["ipv4", 32] as const);
    const length = prefix === undefined ? bits : Number(prefix);
    if (isIP(address) === 0 || length > bits) {
      throw new InvalidOptionError(
        `"${entry}" is no address and no network: trusted proxies are given as 192.0.2.7, 10.0.0.0/8 or fd00::/8.`,
      );
    }
    list.addSubnet(address, length, family);
  }
  return list;
}

/**
 * How to find the address. Whoever connects can write `X-Forwarded-For`, so it is read only as far as it was written by
 * `trustedProxies`: from its end to the first address that is not of these.
 *
 * @throws {InvalidOptionError} as parseNetworks does
 */
export function createAddressOf(trustedProxies: readonly string[]): AddressOf {
  if (trustedProxies.length === 0) return peerOf;
  const trusted = parseNetworks(trustedProxies);
  const isTrusted = (address: string) => trusted.check(address, isIP(address) === 6 ? "ipv6" : "ipv4");
  return (incoming) => {
    let client = peerOf(incoming);
    // Node makes one of several of these headers.
    const entries = String(incoming?.headers[FORWARDED] ?? "").split(",");
    while (client !== undefined && isTrusted(client)) {
      const address = plain(entries.pop()?.trim() ?? "");
      // An address with a zone (fe80::1%eth0) means something on one machine only, and its text could be of any length.
      if (isIP(address) === 0 || address.includes("%")) break;
      client = address;
    }
    return client;
  };
}

function peerOf(incoming: IncomingMessage | undefined): string | undefined {
  const peer = incoming?.socket.remoteAddress;
  return peer === undefined ? undefined : plain(peer);
}

/** An IPv4 address in its own form: on a socket for both kinds it comes as `::ffff:192.0.2.7`. */
function plain(address: string): string {
  return address.startsWith("::ffff:") && isIP(address.slice(7)) === 4 ? address.slice(7) : address;
}
