/**
 * Where runtimes fetch their plan and hand in their outcome, and browsers their page. It also plays the servers that
 * misbehave: one that redirects, one that is silent, one that never ends.
 */

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

import type { Outcome, Plan } from "./suite/plan.ts";

export interface Desk {
  url: string;
  /** Hands out this plan from now on, and gives what is reported on it. */
  expect(plan: Plan): Promise<Outcome>;
  close(): Promise<void>;
}

const PAGE =
  '<!doctype html><meta charset="utf-8"><title>Tacenda</title><script type="module" src="/page.js"></script>';
const ENDLESS_CHUNK = new Uint8Array(65_536);

/** Starts it on a free port of 127.0.0.1. `pageScript` is the file that browsers run. */
export async function openDesk(pageScript: string): Promise<Desk> {
  let plan: Plan | undefined;
  let report: ((outcome: Outcome) => void) | undefined;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, place = "", ...rest] = (request.url ?? "/").split("/");
    if (place === "silent") return;
    if (place === "endless") {
      await sendEndlessly(response);
      return;
    }
    if (place === "redirecting") {
      response.writeHead(307, { location: `${plan?.url ?? ""}/${rest.join("/")}` }).end();
    } else if (place === "plan") {
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(plan));
    } else if (place === "outcome") {
      const outcome = JSON.parse(await text(request)) as Outcome;
      response.end("thanks");
      report?.(outcome);
    } else if (place === "page.js") {
      response.writeHead(200, { "content-type": "text/javascript" }).end(await readFile(pageScript));
    } else if (place === "") {
      response.writeHead(200, { "content-type": "text/html" }).end(PAGE);
    } else {
      response.writeHead(404).end();
    }
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => response.destroy(error as Error));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    expect(next) {
      plan = next;
      return new Promise((resolve) => (report = resolve));
    },
    async close() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

/** A record's headers, then zeros until the reader has had enough. */
async function sendEndlessly(response: ServerResponse): Promise<void> {
  response.writeHead(200, { "content-type": "application/octet-stream", etag: '"1"' });
  const gone = once(response, "close");
  while (!response.destroyed) {
    if (!response.write(ENDLESS_CHUNK)) await Promise.race([once(response, "drain"), gone]);
  }
}

/** A URL on 127.0.0.1 at which nothing listens. */
export async function closedUrl(): Promise<string> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const closed = once(server, "close");
  server.close();
  await closed;
  return `http://127.0.0.1:${port}`;
}
