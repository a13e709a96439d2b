/** Reads request bodies up to a cap and never further, whatever Content-Length says; spec/http.md § Limits. */

import type { IncomingMessage } from "node:http";

import { HttpError } from "./http-error.js";

/**
 * The whole body, at most `cap` bytes. On Node it comes straight from the socket's message, which costs a fraction of
 * a web stream.
 *
 * @throws {HttpError} `body_too_large` as soon as the body is known to be longer; `invalid_request` when it breaks off.
 */
export async function readBody(
  request: Request,
  incoming: IncomingMessage | undefined,
  cap: number,
): Promise<Uint8Array> {
  const declared = request.headers.get("content-length");
  if (declared !== null && Number(declared) > cap) throw new HttpError("body_too_large");
  const chunks = incoming === undefined ? await readWebStream(request, cap) : await readIncoming(incoming, cap);
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
}

function brokenOff(): HttpError {
  return new HttpError("invalid_request", { message: "The body broke off before its end." });
}

function readIncoming(incoming: IncomingMessage, cap: number): Promise<Uint8Array[]> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let length = 0;
    const settle = (action: () => void) => {
      incoming.off("data", onData).off("end", onEnd).off("error", onBreak).off("close", onBreak);
      action();
    };
    const onData = (chunk: Buffer) => {
      length += chunk.length;
      if (length > cap) {
        incoming.pause();
        settle(() => reject(new HttpError("body_too_large")));
      } else chunks.push(chunk);
    };
    const onEnd = () => settle(() => resolve(chunks));
    const onBreak = () => settle(() => reject(brokenOff()));
    if (incoming.destroyed && !incoming.readableEnded) {
      reject(brokenOff());
      return;
    }
    incoming.on("data", onData).on("end", onEnd).on("error", onBreak).on("close", onBreak);
  });
}

async function readWebStream(request: Request, cap: number): Promise<Uint8Array[]> {
  if (request.body === null) return [];
  const reader = request.body.getReader();
  const chunks: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const part = await reader.read().catch(() => {
      throw brokenOff();
    });
    if (part.done) return chunks;
    length += part.value.length;
    if (length > cap) {
      await reader.cancel().catch(() => undefined);
      throw new HttpError("body_too_large");
    }
    chunks.push(part.value);
  }
}
