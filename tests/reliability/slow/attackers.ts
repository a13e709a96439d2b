/**
 * Attackers in a process of their own, so that they are in nobody's way but the server's. What to do comes as JSON in the first
 * argument; a line of JSON is written when all are connected, and for each connection that the server ends.
 */

import { connect } from "node:net";

import { ATTACKS, KINDS, type Kind, type Target } from "./kinds.ts";

export interface Orders {
  target: Target;
  counts: Readonly<Record<Kind, number>>;
  /** Milliseconds after which those who read nothing look whether there is still a connection. */
  patience: number;
}

/** The end of a connection. */
export interface Cut {
  kind: Kind;
  /** Milliseconds since it was opened. */
  after: number;
  /** How the answer begins. */
  answer: string;
  /** Bytes that came in all. */
  length: number;
}

const ANSWER_BEGIN = 1_000;

function attack(kind: Kind, { target, patience }: Orders): Promise<void> {
  return new Promise((connected) => {
    const socket = connect({ port: target.port, host: "127.0.0.1", noDelay: true });
    const begun = performance.now();
    let answer = "";
    let length = 0;
    socket.on("data", (chunk: Buffer) => {
      length += chunk.length;
      if (answer.length < ANSWER_BEGIN) answer += chunk.toString("latin1").slice(0, ANSWER_BEGIN);
    });
    // A server that has enough may as well reset the connection.
    socket.on("error", () => undefined);
    socket.on("close", () => say({ kind, after: Math.round(performance.now() - begun), answer, length } satisfies Cut));
    socket.on("connect", () => {
      connected();
      void ATTACKS[kind](socket, target);
      if (kind === "unread") setTimeout(() => socket.resume(), patience);
    });
  });
}

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const orders = JSON.parse(process.argv[2] ?? "") as Orders;
await Promise.all(KINDS.flatMap((kind) => Array.from({ length: orders.counts[kind] }, () => attack(kind, orders))));
say({ connected: true });
