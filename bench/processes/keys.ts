/** A server in a process of its own that is asked to rotate its keys, and tells from its own log when that was done. */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { DEFAULT_PROJECT } from "@tacenda/protocol";
import { generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { startServer, type Logger } from "@tacenda/server";

import { writeRecords } from "../bulk.ts";
import { STORE } from "../fixture.ts";
import { answerParent } from "./child.ts";
import { type ServerHandlers, usedCpu } from "./contender.ts";

const REWRAPPED = "store keys were wrapped anew";
const REENCRYPTED = "the records of a store were re-encrypted";

/** What the work on keys took. */
export interface KeyWork {
  /** From the request to the line in the log. */
  milliseconds: number;
  /** Milliseconds of the process's time meanwhile, the client's part included. */
  cpu: number;
  /** Of the line in the log. */
  fields: Record<string, unknown>;
}

/** What the process can be asked beside what every server's can. */
export interface KeyHandlers extends ServerHandlers {
  /** Makes stores beside the one that `target` can use, and writes records into all of them. */
  fill(payload: { stores: number; records: number }): Promise<void>;
  /** A master-key rotation, until no wrap is outdated. */
  rotateMaster(payload: null): Promise<KeyWork>;
  /** A data-key rotation, until every record of the store is under the new key and the old one is gone. */
  rotateData(payload: null): Promise<KeyWork>;
}

type Line = [message: string, fields: Record<string, unknown>];
let onLine: (...line: Line) => void = () => undefined;
const log = (fields: object, message: string) => onLine(message, fields as Record<string, unknown>);
const logger: Logger = { debug() {}, info: log, warn: log, error: log };

const dataDir = await mkdtemp(join(tmpdir(), "tacenda-bench-"));
const rootToken = generateSecret();
const server = await startServer({ dataDir, port: 0, rootToken, logger });
const admin = new TacendaAdmin({ url: server.url, token: rootToken });
await admin.stores.create(STORE);
const { token } = await admin.tokens.create("bench", [{ stores: [STORE], permissions: ["read", "write"] }]);

const handlers: KeyHandlers = {
  target: () => Promise.resolve({ url: server.url, token }),
  cpu: usedCpu,

  async fill({ stores, records }) {
    const ids = Array.from({ length: stores - 1 }, (_, index) => `${STORE}-${String(index).padStart(6, "0")}`);
    for (const id of ids) await admin.stores.create(id);
    writeRecords(join(dataDir, "tacenda.db"), DEFAULT_PROJECT, [STORE, ...ids], records);
  },

  async rotateMaster() {
    const work = await timeUntil(REWRAPPED, () => admin.keys.rotate());
    const { outdatedWraps } = await admin.keys.status();
    if (outdatedWraps > 0) throw new Error(`After the rotation ${outdatedWraps} wraps are outdated.`);
    return work;
  },

  async rotateData() {
    const work = await timeUntil(REENCRYPTED, () => admin.keys.rotateData(STORE, { reencrypt: true }));
    const { keys } = await admin.keys.ofStore(STORE);
    if (keys.length > 2) throw new Error("After the re-encryption an earlier data key is still needed.");
    return work;
  },
};

answerParent(handlers, async () => {
  await server.close();
  await rm(dataDir, { recursive: true });
});

/** Time of `begin` until the log has the line: polling the status would take the server's time, and be less exact. */
async function timeUntil(message: string, begin: () => Promise<unknown>): Promise<KeyWork> {
  const before = await usedCpu();
  const start = performance.now();
  const done = new Promise<KeyWork>((resolve, reject) => {
    onLine = (found, fields) => {
      if (found === message) {
        const milliseconds = performance.now() - start;
        void usedCpu().then((after) => resolve({ milliseconds, cpu: after - before, fields }));
      } else if (found.includes("stopped") || found.includes("do not open")) {
        reject(new Error(`The server's log says: ${found}`));
      }
    };
  });
  await Promise.all([begin(), done]);
  return await done;
}
