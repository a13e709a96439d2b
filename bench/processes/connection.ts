/**
 * One keep-alive HTTP/1.1 connection that sends prepared bytes and reads no more of an answer than where it ends. A whole
 * HTTP client would use more processor time than the servers it is to measure.
 */

import { once } from "node:events";
import { type Socket, connect } from "node:net";

const HEAD_END = "\r\n\r\n";
/** What ends a chunked body. */
const EMPTY_CHUNK = "0\r\n\r\n";
const NOTHING = Buffer.alloc(0);

export class Connection {
  readonly #socket: Socket;
  readonly #statuses: readonly string[];
  #answered = 0;
  #received: Buffer = NOTHING;

  private constructor(socket: Socket, statuses: readonly number[]) {
    this.#socket = socket;
    this.#statuses = statuses.map((status) => `HTTP/1.1 ${status} `);
  }

  /** A connection on which every answer must have one of the statuses. */
  static async open(url: string, ...statuses: number[]): Promise<Connection> {
    const { hostname, port } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    await once(socket, "connect");
    return new Connection(socket, statuses);
  }

  /**
   * Sends one request after another until `next` gives none, and resolves to their number. `onAnswer` gets the milliseconds
   * that each took, and which of the statuses it got.
   *
   * @throws {Error} on another answer than expected, and when the connection ends.
   */
  run(next: () => Buffer | null, onAnswer?: (milliseconds: number, status: number) => void): Promise<number> {
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      let answered = 0;
      let sentAt = 0;
      const send = () => {
        const request = next();
        sentAt = performance.now();
        if (request !== null) return void socket.write(request);
        socket.removeAllListeners().destroy();
        resolve(answered);
      };
      socket.on("data", (chunk) => {
        try {
          if (!this.#completes(chunk)) return;
        } catch (error) {
          socket.destroy(error as Error);
          return;
        }
        answered++;
        onAnswer?.(performance.now() - sentAt, this.#answered);
        send();
      });
      socket.on("error", reject);
      socket.on("close", () => reject(new Error("The server closed the connection.")));
      send();
    });
  }

  /** Sends one request, and resolves when it is answered; the connection stays open. @throws as `run` */
  async ask(request: Buffer): Promise<void> {
    const socket = this.#socket;
    socket.write(request);
    for (;;) {
      const [chunk] = (await once(socket, "data")) as [Buffer];
      if (this.#completes(chunk)) return;
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  /** Whether `chunk` completes the answer that is being received. */
  #completes(chunk: Buffer): boolean {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    const headEnd = this.#received.indexOf(HEAD_END);
    if (headEnd === -1) return false;
    const head = this.#received.toString("latin1", 0, headEnd);
    const status = this.#statuses.find((one) => head.startsWith(one));
    if (status === undefined) throw new Error(`Unexpected answer: ${head.slice(0, head.indexOf("\r\n"))}`);
    if (this.#received.length < headEnd + HEAD_END.length + bodyLength(head)) return false;
    this.#received = NOTHING;
    this.#answered = Number(status.split(" ")[1]);
    return true;
  }
}

/** Bytes of the body as sent. Chunked ones are taken for empty: so @hono/node-server sends answers without a body. */
function bodyLength(head: string): number {
  const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1];
  if (length !== undefined) return Number(length);
  if (/\r\ntransfer-encoding: chunked/i.test(head)) return EMPTY_CHUNK.length;
  throw new Error("An answer without Content-Length: its end cannot be seen.");
}
