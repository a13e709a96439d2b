/** The ledger: where it is kept and when it is written, and what it finds in servers that answer otherwise than they did before. */

import { once } from "node:events";
import { readFileSync, readdirSync, statSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";

import { describe, expect, onTestFinished, test, vi } from "vitest";

import { freshFolder } from "../server-process.ts";
import { Ledger } from "./ledger.ts";

const PATH = "/v1/projects/default/stores/s/records/r";

/** A server that answers PUTs with these statuses in turn, and then shows these versions; it hangs up for 0. */
async function serve(statuses: readonly number[], shown: Readonly<Record<number, string>>, onPut?: () => void) {
  let puts = 0;
  const server = createServer((request: IncomingMessage, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "", "http://server");
    request.resume();
    if (request.method === "PUT") {
      onPut?.();
      const status = statuses[puts++] ?? 500;
      if (status === 0) response.destroy();
      else response.writeHead(status).end();
    } else if (pathname.endsWith("/versions")) {
      const versions = Object.keys(shown).map((version) => ({ version: Number(version) }));
      response.writeHead(versions.length === 0 ? 404 : 200).end(JSON.stringify({ versions }));
    } else {
      const body = shown[Number(searchParams.get("version"))];
      response.writeHead(body === undefined ? 404 : 200).end(body);
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

type Put = readonly [version: number, body: string, status: number];

/** Writes, and gives what the audit says. */
async function audit(puts: readonly Put[], shown: Readonly<Record<number, string>>): Promise<string> {
  const statuses = puts.map(([, , status]) => status);
  const url = await serve(statuses, shown);
  const ledger = new Ledger();
  for (const [version, body] of puts) {
    const headers: Record<string, string> =
      version === 1 ? { "if-none-match": "*" } : { "if-match": `"${version - 1}"` };
    await ledger.fetch(url + PATH, { method: "PUT", headers, body }).catch(() => undefined);
  }
  const written = puts.flatMap(([version, , status]) => (status === 200 || status === 201 ? [version] : []));
  expect(ledger.acknowledged).toBe(new Set(written).size);
  return (await ledger.audit(url, "token")).join("; ");
}

describe("the ledger", () => {
  test("has a line in its file before the request is sent, and one after the answer", async () => {
    const folder = await freshFolder();
    vi.stubEnv("TACENDA_LEDGER_DIR", folder);
    onTestFinished(() => void vi.unstubAllEnvs());
    const ledger = new Ledger();
    const rows = () => {
      const [own = ""] = readdirSync(folder);
      return readFileSync(join(folder, own, "ledger.jsonl"), "utf8").split("\n").length - 1;
    };
    const seen: number[] = [];
    const url = await serve([201, 0], {}, () => seen.push(rows()));
    await ledger.fetch(url + PATH, { method: "PUT", headers: { "if-none-match": "*" }, body: "one" });
    expect(rows()).toBe(2);
    await ledger
      .fetch(url + PATH, { method: "PUT", headers: { "if-match": '"1"' }, body: "two" })
      .catch(() => undefined);
    expect(rows()).toBe(4);
    expect(seen).toEqual([1, 3]);
  });

  test.runIf(process.env.TACENDA_LEDGER_DIR === undefined && statSync("/dev/shm", { throwIfNoEntry: false }))(
    "is on another file system than the data",
    async () => {
      const before = new Set(readdirSync("/dev/shm"));
      const ledger = new Ledger();
      const [own] = readdirSync("/dev/shm").filter((name) => name.startsWith("tacenda-ledger-") && !before.has(name));
      expect(ledger.acknowledged).toBe(0);
      expect(statSync(join("/dev/shm", own ?? "missing")).dev).not.toBe(statSync(await freshFolder()).dev);
    },
  );

  test.each<[string, Put[], Record<number, string>]>([
    [
      "what was acknowledged, in the end",
      [
        [1, "one", 500],
        [1, "one", 201],
        [2, "two", 200],
      ],
      { 1: "one", 2: "two" },
    ],
    [
      "what may have been written, there",
      [
        [1, "one", 201],
        [2, "two", 0],
        [2, "due", 500],
      ],
      { 1: "one", 2: "two" },
    ],
    [
      "what may have been written, not there",
      [
        [1, "one", 201],
        [2, "two", 0],
        [2, "due", 503],
      ],
      { 1: "one" },
    ],
    [
      "what was refused, not there",
      [
        [1, "one", 503],
        [1, "two", 412],
      ],
      {},
    ],
  ])("finds nothing wrong with %s", async (_, puts, shown) => {
    expect(await audit(puts, shown)).toBe("");
  });

  test.each<[string, Put[], Record<number, string>]>([
    [
      "was acknowledged and is lost",
      [
        [1, "one", 201],
        [2, "two", 200],
      ],
      { 1: "one" },
    ],
    [
      "is not what was acknowledged",
      [
        [1, "one", 201],
        [1, "two", 500],
      ],
      { 1: "two" },
    ],
    [
      "2 different writes of it were acknowledged",
      [
        [1, "one", 201],
        [1, "two", 201],
      ],
      { 1: "two" },
    ],
    ["nobody wrote these bytes", [[1, "one", 500]], { 1: "on" }],
    [
      "was refused and is there",
      [
        [1, "one", 201],
        [2, "two", 503],
        [2, "two", 412],
      ],
      { 1: "one", 2: "two" },
    ],
    ["nobody wrote its version 2", [[1, "one", 201]], { 1: "one", 2: "one" }],
    [
      "a gap or a double before 3",
      [
        [1, "one", 0],
        [2, "two", 0],
        [3, "three", 200],
      ],
      { 1: "one", 3: "three" },
    ],
  ])("finds that a version %s", async (fault, puts, shown) => {
    expect(await audit(puts, shown)).toContain(fault);
  });
});
