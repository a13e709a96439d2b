/** Load for P9, in a process of its own: GETs and overwriting PUTs of uniformly random keys, each timed. */

import { randomInt } from "node:crypto";

import { RECORD_MEDIA_TYPE, versionTag } from "@tacenda/protocol";

import { RECORD_BYTES, fillRecord } from "../fixture.ts";
import { hashAt } from "../scale/records.ts";
import { answerParent } from "./child.ts";
import { Connection } from "./connection.ts";
import { type Target, requestHead } from "./contender.ts";

const OK = 200;
/** A record that an earlier run on the same database has overwritten, of many a few. It does not count. */
const CONFLICT = 412;

export interface ScaleLoad {
  target: Target;
  /** Those of the hashes that the server has. */
  seed: string;
  records: number;
  method: "GET" | "PUT";
  connections: number;
  seconds: number;
}

const handlers = {
  /** Milliseconds that each request took. */
  async load({ target, seed, records, method, connections, seconds }: ScaleLoad): Promise<number[]> {
    const open = await Promise.all(
      Array.from({ length: connections }, () => Connection.open(target.url, OK, CONFLICT)),
    );
    const samples: number[] = [];
    const deadline = performance.now() + seconds * 1000;
    const run = (connection: Connection, number: number) => {
      const next = method === "GET" ? gets : puts;
      // Each connection has keys of its own, so that no two write to the same at once.
      const pick = () => number + connections * randomInt(Math.floor(records / connections));
      const request = () => (performance.now() < deadline ? next(target, seed, pick()) : null);
      return connection.run(request, (milliseconds, status) => {
        if (status === OK) samples.push(milliseconds);
      });
    };
    await Promise.all(open.map(run));
    return samples;
  },
};

export type ScaleGeneratorHandlers = typeof handlers;
answerParent(handlers);

function gets(target: Target, seed: string, index: number): Buffer {
  return Buffer.from(`${requestHead("GET", hashAt(seed, index), target)}\r\n`);
}

/** The versions of keys that were overwritten, by server and index; the others are at their first. */
const versions = new Map<string, Map<number, number>>();

function puts(target: Target, seed: string, index: number): Buffer {
  const written = versions.get(target.url) ?? new Map<number, number>();
  versions.set(target.url, written);
  const version = written.get(index) ?? 1;
  written.set(index, version + 1);
  const head =
    `${requestHead("PUT", hashAt(seed, index), target)}If-Match: ${versionTag(version)}\r\n` +
    `Content-Type: ${RECORD_MEDIA_TYPE}\r\nContent-Length: ${RECORD_BYTES}\r\n\r\n`;
  const request = Buffer.alloc(head.length + RECORD_BYTES, head, "latin1");
  fillRecord(request, head.length);
  return request;
}
