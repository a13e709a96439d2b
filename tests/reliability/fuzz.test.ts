/**
 * Requests that nobody should send, thousands of them, over every route: no answer is a failure, every error is in its uniform form
 * and on the closed list, nothing of a request shows in an error or in the log, and the server stays up and right.
 * TACENDA_FUZZ_REQUESTS says how many.
 */

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder, spawnServer } from "../server-process.ts";
import { DATABASES, freshPlace, type DatabaseName } from "./databases.ts";
import { judge } from "./fuzz/judge.ts";
import { render, requests, type FuzzRequest, type Garbage } from "./fuzz/requests.ts";
import { NEEDLE, ROOT_TOKEN, TOKEN_NAMES, isAlive, placeCanary, setScene, type Scene } from "./fuzz/scene.ts";
import { exchange } from "./fuzz/wire.ts";
import { reportBug, reportTrials } from "./report.ts";
import { VERSION_UNCHECKED } from "./seeded-bugs.ts";

const REQUESTS = Number(process.env.TACENDA_FUZZ_REQUESTS ?? 2_000);
/** In an array of requests, on average. */
const EACH = 45;
/** How many are under way at once. */
const LANES = 4;
/** Arrays until the scene is set anew. */
const SCENE_LASTS = 10;
/** Characters of a request in an error. */
const SHOWN = 2_000;

interface Outcome {
  sent: number;
  /** How often each status came. */
  statuses: Record<string, number>;
  faults: string[];
}

async function fuzz(bin: string, database: DatabaseName, count: number): Promise<Outcome> {
  const place = await freshPlace(database);
  const server = await spawnServer({ bin, ...place, rootToken: ROOT_TOKEN });
  const port = Number(new URL(server.url).port);
  const canary = await placeCanary(server.url);
  const outcome: Outcome = { sent: 0, statuses: {}, faults: [] };
  const tokens = new Set<string>([ROOT_TOKEN]);
  let scene: Scene | undefined;
  let runs = 0;

  const send = async (one: FuzzRequest | Garbage, on: Scene) => {
    const isGarbage = "garbage" in one;
    const rendered = isGarbage ? null : render(one, on);
    const bytes = isGarbage ? one.garbage.bytes : (rendered?.bytes ?? new Uint8Array(0));
    const result = await exchange(port, bytes, {
      isHead: rendered?.method === "HEAD",
      isPartial: isGarbage || (rendered?.isPartial ?? false) || (rendered?.hasMore ?? false),
      untilClosed: isGarbage,
    });
    outcome.sent++;
    for (const { status } of result.answers) outcome.statuses[status] = (outcome.statuses[status] ?? 0) + 1;
    const fault = judge(result, isGarbage ? null : one, rendered);
    if (fault !== null) throw new Error(`${fault} ${rendered?.path ?? ""} ${fc.stringify(one).slice(0, SHOWN)}`);
  };

  const property = fc.asyncProperty(requests, async (list) => {
    if (scene === undefined || runs % SCENE_LASTS === 0 || !(await isAlive(server.url, scene))) {
      scene = await setScene(server.url, runs, scene);
      for (const name of TOKEN_NAMES) tokens.add(scene.tokens[name]);
    }
    runs++;
    const on = scene;
    const waiting = [...list];
    const lane = async () => {
      for (let one = waiting.pop(); one !== undefined; one = waiting.pop()) await send(one, on);
    };
    // All of them, so that none is still at work when the next array begins.
    const ended = await Promise.allSettled(Array.from({ length: LANES }, lane));
    for (const one of ended) if (one.status === "rejected") throw one.reason;
    const fault = await canary.check();
    if (fault !== null) throw new Error(fault);
  });
  // Not shrunk: the error shows the one request. With its seed the whole run can be repeated.
  const { failed, errorInstance, seed } = await fc.check(property, {
    numRuns: Math.ceil(count / EACH),
    endOnFailure: true,
  });
  if (failed) outcome.faults.push(`${String(errorInstance)} (seed ${seed})`);
  expect((await fetch(`${server.url}/livez`)).status).toBe(200);
  await server.end("SIGTERM");
  outcome.faults.push(...judgeLog(server.output(), tokens));
  return outcome;
}

/** What the log must not hold: failures, what is not its own, and anything of the requests. */
function judgeLog(text: string, tokens: ReadonlySet<string>): string[] {
  const faults: string[] = [];
  for (const line of text.split("\n").filter((one) => one !== "")) {
    if (!/^\{"level":[34]0,/.test(line)) faults.push(`in the log: ${line.slice(0, 2_000)}`);
    if (line.includes(NEEDLE)) faults.push(`the log tells of a request: ${line}`);
  }
  for (const token of tokens) if (text.includes(token)) faults.push("a token is in the log");
  return faults.slice(0, 5);
}

describe.each(DATABASES)(`on %s, ${REQUESTS} requests over every route`, (database) => {
  const subject = { id: "R9", test: "HTTP fuzz over every route", database } as const;

  test("meet no failure, no crash, and only well-formed errors", { timeout: 60_000 + REQUESTS * 50 }, async () => {
    const { sent, statuses, faults } = await fuzz(SERVER_BIN, database, REQUESTS);
    console.log(database, sent, statuses);
    reportTrials({ ...subject, trials: sent, unit: "requests", losses: 0, violations: faults.length });
    expect(faults).toEqual([]);
  });

  test("this suite catches a version that nobody checks", { timeout: 60_000 }, async () => {
    const bin = await seedServer(await freshFolder(), [VERSION_UNCHECKED]);
    const faults = (await fuzz(bin, database, 10_000)).faults.join("\n");
    const caught = faults.includes("500: a failure");
    reportBug({ ...subject, bug: "a version in a query is not checked", caught });
    expect(caught, faults).toBe(true);
  });
});
