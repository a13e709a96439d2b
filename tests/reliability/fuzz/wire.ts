/** One request over a socket of its own, byte for byte as it is given, and whatever comes back. */

import { connect } from "node:net";

export interface WireAnswer {
  status: number;
  headers: Headers;
  body: Buffer;
}

export interface Exchange {
  /** All final answers that came on the connection. */
  answers: WireAnswer[];
  /** What came is no HTTP, or breaks off. */
  broken: boolean;
  /** Neither was there a whole answer nor did the server close, in all the time it has. */
  hung: boolean;
}

export interface WireOptions {
  /** An answer to HEAD ends with its headers. */
  isHead: boolean;
  /** The request is not complete: after a pause the sender's side is closed. */
  isPartial: boolean;
  /** Wait until the server closes: more may come than one answer. */
  untilClosed: boolean;
}

/** Milliseconds in which everything must be over, on a busy machine. */
const PATIENCE = 20_000;
/** Milliseconds before the sender's side is closed. */
const PAUSE = 30;

export function exchange(port: number, bytes: Uint8Array, options: WireOptions): Promise<Exchange> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    const chunks: Buffer[] = [];
    const finish = (hung: boolean) => {
      clearTimeout(late);
      socket.destroy();
      resolve({ ...parseAnswers(Buffer.concat(chunks), options.isHead), hung });
    };
    const late = setTimeout(() => finish(true), PATIENCE);
    socket.on("data", (chunk) => {
      chunks.push(chunk);
      if (options.untilClosed) return;
      const { answers, broken } = parseAnswers(Buffer.concat(chunks), options.isHead);
      if (answers.length > 0 && !broken) finish(false);
    });
    // A server may close before it has read all, and a reset is how the sender learns of it.
    socket.on("error", () => finish(false)).on("close", () => finish(false));
    socket.write(bytes);
    if (options.isPartial) setTimeout(() => socket.end(), PAUSE);
  });
}

function parseAnswers(bytes: Buffer, isHead: boolean): Pick<Exchange, "answers" | "broken"> {
  const answers: WireAnswer[] = [];
  let rest = bytes;
  while (rest.length > 0) {
    const end = rest.indexOf("\r\n\r\n");
    const [line = "", ...lines] = rest.subarray(0, end).toString("latin1").split("\r\n");
    const status = Number(/^HTTP\/1\.1 ([1-5][0-9]{2}) /.exec(line)?.[1]);
    if (end === -1 || Number.isNaN(status)) return { answers, broken: true };
    const headers = new Headers(lines.map((one) => splitAt(one, one.indexOf(":"))));
    // What is no request at all to the server is refused with a body, whatever its method was to be.
    const hasBody = status >= 200 && status !== 204 && status !== 304 && !(isHead && rest.length === end + 4);
    const length = hasBody ? Number(headers.get("content-length") ?? NaN) : 0;
    const start = end + 4;
    if (!(rest.length >= start + length)) return { answers, broken: true };
    if (status >= 200) answers.push({ status, headers, body: rest.subarray(start, start + length) });
    rest = rest.subarray(start + length);
  }
  return { answers, broken: false };
}

function splitAt(line: string, place: number): [string, string] {
  return [line.slice(0, place), line.slice(place + 1)];
}
