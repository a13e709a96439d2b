/**
 * Reads request bodies up to a cap and never further, whatever Content-Length says, and large ones only when there is room for
 * them; spec/http.md § Limits, § Overload.
 */

import type { IncomingMessage } from "node:http";

import { BodyHold } from "./admission.js";
import { HttpError } from "./http-error.js";

/**
 * The whole body, at most `cap` bytes. On Node it comes straight from the socket's message, which costs a fraction of
 * a web stream. Room for a body is reserved when more than a little of it has come, so that none is kept for clients that
 * announce much and send nothing.
 *
 * @throws {HttpError} `body_too_large` as soon as the body is known to be longer; `overloaded` when there is no room,
 * once the body was read away; `invalid_request` when it breaks off.
 */
export async function readBody(
  request: Request,
  incoming: IncomingMessage | undefined,
  cap: number,
  hold: BodyHold,
): Promise<Uint8Array> {
  const header = request.headers.get("content-length");
  const declared = header === null ? cap : Number(header);
  if (declared > cap) throw new HttpError("body_too_large");
  const reserve = () => hold.reserve(declared);
  const chunks =
    incoming === undefined ? await readWebStream(request, cap, reserve) : await readIncoming(incoming, cap, reserve);
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
}

/**
 * Reads a body away, up to `cap` bytes, so that the answer to its request is not lost on a connection that is closed while the
 * client still sends, and the connection can be used again.
 */
export function discardBody(incoming: IncomingMessage | undefined, cap: number): Promise<void> {
  return new Promise((resolve) => {
    if (incoming === undefined || incoming.readableEnded || incoming.destroyed) {
      resolve();
      return;
    }
    let length = 0;
    const onData = (chunk: Buffer) => {
      length += chunk.length;
      if (length > cap) onEnd();
    };
    const onEnd = () => {
      incoming.off("data", onData).off("end", onEnd).off("error", onEnd).off("close", onEnd);
      resolve();
    };
    incoming.on("data", onData).on("end", onEnd).on("error", onEnd).on("close", onEnd).resume();
  });
}

/** Nobody will read it. */
export function brokenOff(): HttpError {
  return new HttpError("invalid_request", { message: "The request broke off before its end." });
}

function readIncoming(incoming: IncomingMessage, cap: number, reserve: () => Promise<void>): Promise<Uint8Array[]> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let length = 0;
    let isReserved = false;
    let isSettled = false;
    const settle = (action: () => void) => {
      // The client may have gone while its body waited for room, which is answered later.
      if (isSettled) return;
      isSettled = true;
      incoming.off("data", onData).off("end", onEnd).off("error", onBreak).off("close", onBreak);
      action();
    };
    const onData = (chunk: Buffer) => {
      length += chunk.length;
      if (length > cap) {
        incoming.pause();
        settle(() => reject(new HttpError("body_too_large")));
        return;
      }
      chunks.push(chunk);
      if (isReserved || BodyHold.isSmall(length)) return;
      isReserved = true;
      // Meanwhile it stays with the client.
      incoming.pause();
      const room = reserve();
      room.then(
        () => incoming.resume(),
        () => settle(() => resolve(discardBody(incoming, cap).then(() => room.then(() => chunks)))),
      );
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

async function readWebStream(request: Request, cap: number, reserve: () => Promise<void>): Promise<Uint8Array[]> {
  if (request.body === null) return [];
  const reader = request.body.getReader();
  const chunks: Uint8Array[] = [];
  let length = 0;
  let isReserved = false;
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
    if (isReserved || BodyHold.isSmall(length)) continue;
    isReserved = true;
    await reserve();
  }
}
