/** A real HTTP server on a free loopback port, for tests of the SDK's HTTP layer. */

import { type IncomingMessage, type RequestListener, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface Served {
  url: string;
  /** `METHOD path` of every request, in order. */
  seen: string[];
  [Symbol.asyncDispose](): Promise<void>;
}

export async function serve(
  listener: (request: IncomingMessage, response: ServerResponse, count: number) => void,
): Promise<Served> {
  const seen: string[] = [];
  const handle: RequestListener = (request, response) => {
    seen.push(`${request.method ?? ""} ${request.url ?? ""}`);
    request.resume();
    listener(request, response, seen.length);
  };
  const server = createServer(handle);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** An error body as a Tacenda server writes it. */
export function errorJson(code: string, requestId = "00000000-0000-4000-8000-000000000000"): string {
  return JSON.stringify({ error: { code, message: "hostile <token> message", requestId } });
}
