/** What the servers that are compared under load have in common. */

import { Session, type HeapProfiler } from "node:inspector/promises";

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

/** Of servers that are compared request by request. */
export interface ComparedHandlers extends ServerHandlers {
  /** Begins to sample what is allocated on the heap; the next call ends that and gives the bytes. */
  allocated(payload: null): Promise<number>;
}

export function usedCpu(): Promise<number> {
  const { user, system } = process.cpuUsage();
  return Promise.resolve((user + system) / 1000);
}

/** Bytes between two samples. */
const SAMPLING_INTERVAL = 16_384;
let sampling: Session | null = null;

/** What is freed again counts as well. Memory outside of the heap, as that of large buffers, does not. */
export async function allocatedOnHeap(): Promise<number> {
  const session = sampling;
  if (session !== null) {
    sampling = null;
    const { profile } = await session.post("HeapProfiler.stopSampling");
    session.disconnect();
    return sizeOf(profile.head);
  }
  sampling = new Session();
  sampling.connect();
  const collected = { includeObjectsCollectedByMajorGC: true, includeObjectsCollectedByMinorGC: true };
  await sampling.post("HeapProfiler.startSampling", { samplingInterval: SAMPLING_INTERVAL, ...collected });
  return 0;
}

function sizeOf({ selfSize, children }: HeapProfiler.SamplingHeapProfileNode): number {
  return children.reduce((sum, child) => sum + sizeOf(child), selfSize);
}

/** Request line and headers, up to where more headers can follow. */
export function requestHead(method: "GET" | "PUT", hash: Uint8Array, { url, token }: Target, store = STORE): string {
  const path = `/${recordPath(DEFAULT_PROJECT, store, hash)}`;
  return `${method} ${path} HTTP/1.1\r\nHost: ${new URL(url).host}\r\nAuthorization: Bearer ${token}\r\n`;
}
