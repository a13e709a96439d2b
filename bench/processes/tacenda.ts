/** The server under test, in a process of its own: SQLite in a fresh folder, a store, and a token for it. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { startServer } from "@tacenda/server";

import { STORE } from "../fixture.ts";
import { answerParent } from "./child.ts";
import { type ComparedHandlers, type Target, allocatedOnHeap, usedCpu } from "./contender.ts";

const dataDir = await mkdtemp(join(tmpdir(), "tacenda-bench-"));
// A generated secret is long and random enough to serve as the root token.
const rootToken = generateSecret();
const server = await startServer({ dataDir, port: 0, rootToken });
const admin = new TacendaAdmin({ url: server.url, token: rootToken });
await admin.stores.create(STORE);
const { token } = await admin.tokens.create("bench", [{ stores: [STORE], permissions: ["read", "write"] }]);

const handlers = {
  target: () => Promise.resolve({ url: server.url, token }),
  cpu: usedCpu,
  allocated: allocatedOnHeap,
  /** Makes so many stores more, and gives a target that may use them. */
  async addStores(names: readonly string[]): Promise<Target> {
    for (const name of names) await admin.stores.create(name);
    return { url: server.url, token: rootToken };
  },
  /** Bytes of memory that the process has. */
  memory: () => Promise.resolve(process.memoryUsage.rss()),
} satisfies ComparedHandlers;
export type TacendaHandlers = typeof handlers;

answerParent(handlers, async () => {
  await server.close();
  await rm(dataDir, { recursive: true });
});
