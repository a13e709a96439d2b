/** Ways to hold a connection for as long as the server lets one. */

import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** What attackers know. */
export interface Target {
  port: number;
  token: string;
  /** Path of the store, with records so large that no system's buffers hold the answer to all of them. */
  store: string;
  hashes: readonly string[];
}

export type Kind = "headers" | "body" | "endless" | "stranger" | "unread";
export const KINDS: readonly Kind[] = ["headers", "body", "endless", "stranger", "unread"];

/** Milliseconds between two drops. */
const DRIP = 400;
const CHUNK = Buffer.concat([Buffer.from("2000\r\n"), Buffer.alloc(8_192), Buffer.from("\r\n")]);
/** Milliseconds between two chunks of an endless body. */
const STREAM = 8;

/** Each goes on until the connection is closed. */
export const ATTACKS: Readonly<Record<Kind, (socket: Socket, target: Target) => Promise<void>>> = {
  async headers(socket) {
    socket.write("GET /livez HTTP/1.1\r\nHost: a\r\n");
    await drip(socket, "X: y\r\n");
  },
  async body(socket, target) {
    socket.write(`${put(target)}Authorization: Bearer ${target.token}\r\nContent-Length: 1000000\r\n\r\n`);
    await drip(socket, "x");
  },
  async endless(socket, target) {
    socket.write(`${put(target)}Authorization: Bearer ${target.token}\r\nTransfer-Encoding: chunked\r\n\r\n`);
    await stream(socket);
  },
  async stranger(socket, target) {
    socket.write(`${put(target)}Transfer-Encoding: chunked\r\n\r\n`);
    await stream(socket);
  },
  async unread(socket, { store, token, hashes }) {
    const body = JSON.stringify({ reads: hashes.map((key) => ({ key })) });
    socket.pause();
    const head = [`POST ${store}/batch HTTP/1.1`, "Host: a", `Authorization: Bearer ${token}`];
    const type = ["Content-Type: application/json", `Content-Length: ${body.length}`];
    socket.write(`${[...head, ...type].join("\r\n")}\r\n\r\n${body}`);
    await closed(socket);
  },
};

function put({ store, hashes }: Target): string {
  const type = "Content-Type: application/octet-stream\r\nIf-None-Match: *";
  return `PUT ${store}/records/${hashes[0] ?? ""} HTTP/1.1\r\nHost: a\r\n${type}\r\n`;
}

async function drip(socket: Socket, drop: string): Promise<void> {
  while (!socket.destroyed) {
    await sleep(DRIP);
    socket.write(drop);
  }
}

async function stream(socket: Socket): Promise<void> {
  while (!socket.destroyed) {
    await sleep(STREAM);
    // What the server does not take stays with the system, and no more is sent then.
    if (socket.writableLength === 0) socket.write(CHUNK);
  }
}

async function closed(socket: Socket): Promise<void> {
  while (!socket.destroyed) await sleep(DRIP);
}
