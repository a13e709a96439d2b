/** The baseline under load: a Hono app on @hono/node-server that does nothing but take and return bytes. */

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";

import { serve } from "@hono/node-server";
import { RECORD_MEDIA_TYPE } from "@tacenda/protocol";
import { Hono } from "hono";

import { RECORD_BYTES } from "../fixture.ts";
import { answerParent } from "./child.ts";
import { type ComparedHandlers, allocatedOnHeap, usedCpu } from "./contender.ts";

const PATH = "/v1/projects/:project/stores/:store/records/:hash";
const record = new Uint8Array(randomBytes(RECORD_BYTES));

const app = new Hono();
app.get(PATH, (context) => context.body(record, 200, { "content-type": RECORD_MEDIA_TYPE }));
app.put(PATH, async (context) => {
  const { byteLength } = await context.req.arrayBuffer();
  return context.body(null, byteLength === RECORD_BYTES ? 201 : 400);
});

const server = serve({ fetch: app.fetch, hostname: "127.0.0.1", port: 0 });
await once(server, "listening");
const { port } = server.address() as AddressInfo;

const handlers: ComparedHandlers = {
  target: () => Promise.resolve({ url: `http://127.0.0.1:${port}`, token: "a-token-that-nobody-checks" }),
  cpu: usedCpu,
  allocated: allocatedOnHeap,
};

answerParent(handlers);
