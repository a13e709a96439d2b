/** Two servers on one PostgreSQL database and one keyring, and how long one takes to see what the other has done. */

import { setTimeout as sleep } from "node:timers/promises";

import { expect } from "vitest";

import { spawnServer, type ProcessOptions, type ServerProcess } from "../server-process.ts";
import { freshPlace, type Place } from "./databases.ts";
import { ROOT_TOKEN } from "./key-world.ts";

/** Milliseconds within which every server sees what one has changed. */
const SEEN_LIMIT = 5_000;
const POLL = 20;

export interface TwoServers {
  place: Place;
  one: ServerProcess;
  two: ServerProcess;
  /** One more on the same database. */
  start: (more?: Partial<ProcessOptions>) => Promise<ServerProcess>;
}

/** Starts them; the data directory, which holds nothing but the keyring, is theirs together. */
export async function startTwo(options: Partial<ProcessOptions> = {}): Promise<TwoServers> {
  const place = await freshPlace("PostgreSQL");
  const start = (more: Partial<ProcessOptions> = {}) =>
    spawnServer({
      rootToken: ROOT_TOKEN,
      ...options,
      ...more,
      dataDir: place.dataDir,
      env: { ...place.env, ...options.env, ...more.env },
    });
  return { place, one: await start(), two: await start(), start };
}

/** One request, by root unless told otherwise. A string or an object is sent as JSON. */
export async function call(
  { url }: Pick<ServerProcess, "url">,
  method: string,
  path: string,
  { token = ROOT_TOKEN, body, headers }: { token?: string; body?: object; headers?: Record<string, string> } = {},
): Promise<{ status: number; code: string | null; body: Record<string, unknown>; headers: Headers }> {
  const isBytes = body instanceof Uint8Array;
  const answer = await fetch(url + path, {
    method,
    headers: {
      authorization: `Bearer ${token}`,
      ...(body !== undefined && { "content-type": isBytes ? "application/octet-stream" : "application/json" }),
      ...headers,
    },
    ...(body !== undefined && { body: isBytes ? (body as BodyInit) : JSON.stringify(body) }),
  });
  const isJson = answer.headers.get("content-type") === "application/json";
  const text = await answer.text();
  const parsed = isJson ? (JSON.parse(text) as Record<string, unknown>) : {};
  const error = parsed.error as { code: string } | undefined;
  return { status: answer.status, code: error?.code ?? null, body: parsed, headers: answer.headers };
}

/** Asks again and again until `isSeen`; gives the milliseconds that took. */
export async function untilSeen(what: string, isSeen: () => Promise<boolean>, limit = SEEN_LIMIT): Promise<number> {
  const started = performance.now();
  while (!(await isSeen())) {
    expect(performance.now() - started, `${what} is not seen within ${limit} ms`).toBeLessThan(limit);
    await sleep(POLL);
  }
  return Math.round(performance.now() - started);
}
