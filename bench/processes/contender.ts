/** What the servers that are compared under load have in common. */

import { DEFAULT_PROJECT, recordPath } from "@tacenda/protocol";

import { STORE } from "../fixture.ts";

/** How to reach a server. */
export interface Target {
  url: string;
  token: string;
}

/** What a server's process can be asked. */
export interface ServerHandlers {
  [name: string]: (payload: never) => Promise<unknown>;
  /** How to reach it. */
  target(payload: null): Promise<Target>;
  /** Milliseconds of processor time that the process has used, all its threads together. */
  cpu(payload: null): Promise<number>;
}

export function usedCpu(): Promise<number> {
  const { user, system } = process.cpuUsage();
  return Promise.resolve((user + system) / 1000);
}

/** Request line and headers, up to where more headers can follow. */
export function requestHead(method: "GET" | "PUT", hash: Uint8Array, { url, token }: Target, store = STORE): string {
  const path = `/${recordPath(DEFAULT_PROJECT, store, hash)}`;
  return `${method} ${path} HTTP/1.1\r\nHost: ${new URL(url).host}\r\nAuthorization: Bearer ${token}\r\n`;
}
