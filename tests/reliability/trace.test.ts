/** The reader of traces, on small traces whose verdict is known. */

import { describe, expect, test } from "vitest";

import { POSTGRES_LOG, analyseTrace } from "./trace.ts";

const PUT = '7 read(30<socket:[5]>, "PUT /v1/projects/default/stores/s/records/"..., 65536) = 645';
const WRITE = '7 pwrite64(27</data/tacenda.db-wal>, "x"..., 4096, 32) = 4096';
const SYNC = "7 fdatasync(27</data/tacenda.db-wal>) = 0";
const ANSWER = '7 write(30<socket:[5]>, "HTTP/1.1 201 Created\\r\\ncache-control: no-store"..., 269) = 269';

const verdict = (...lines: string[]) => analyseTrace(lines.join("\n"), 4_096);

describe("the reader of traces", () => {
  test("accepts a write that was synced before its answer", () => {
    expect(verdict(PUT, WRITE, WRITE, SYNC, ANSWER)).toEqual({ acknowledged: 1, early: [] });
  });

  test("accepts one sync for two writers", () => {
    const second = (line: string) => line.replace("30<socket:[5]>", "31<socket:[6]>");
    const lines = [PUT, second(PUT), WRITE, WRITE, SYNC, ANSWER, second(ANSWER)];
    expect(verdict(...lines)).toEqual({ acknowledged: 2, early: [] });
  });

  test("finds an answer that profits from another write's sync", () => {
    const late = [PUT, WRITE, SYNC, ANSWER];
    const second = (line: string) => line.replace("30<socket:[5]>", "31<socket:[6]>");
    expect(verdict(PUT, second(PUT), WRITE, SYNC, ANSWER, second(ANSWER)).early).toHaveLength(1);
    expect(verdict(WRITE, WRITE, SYNC, ...late, ...late).early).toEqual([]);
  });

  test("a sync that has begun is none yet", () => {
    const begun = "8 fsync(27</data/tacenda.db-wal> <unfinished ...>";
    const ended = "8 <... fsync resumed>) = 0";
    expect(verdict(PUT, WRITE, begun, ended, ANSWER).early).toEqual([]);
    expect(verdict(PUT, WRITE, begun, ANSWER, ended).early).toHaveLength(1);
  });

  test("a request read in two parts of the trace counts from its end", () => {
    const begun = "7 read(30<socket:[5]>,  <unfinished ...>";
    const ended = '7 <... read resumed>"PUT /v1/projects/default/stores/s/records/"..., 65536) = 645';
    expect(verdict(begun, WRITE, SYNC, ended, ANSWER).early).toHaveLength(1);
    expect(verdict(begun, ended, WRITE, SYNC, ANSWER).early).toEqual([]);
  });

  test.each([
    ["no write", [PUT, SYNC, ANSWER]],
    ["no sync", [PUT, WRITE, ANSWER]],
    ["only a sync from before", [SYNC, PUT, WRITE, ANSWER]],
    ["a write after the sync", [PUT, WRITE, SYNC, WRITE, ANSWER]],
    ["a sync of another file", [PUT, WRITE, SYNC.replace("tacenda.db-wal", "keyring.json"), ANSWER]],
    ["a sync that failed", [PUT, WRITE, SYNC.replace("= 0", "= -1 EIO (Input/output error)"), ANSWER]],
    ["a write and sync from before it arrived", [WRITE, SYNC, PUT, ANSWER]],
  ])("finds an answer with %s", (_, lines) => {
    expect(verdict(...lines).early).toHaveLength(1);
  });

  describe("of PostgreSQL", () => {
    const SEGMENT = "/data/pg_wal/000000010000000000000001";
    const written = (process: number, file = SEGMENT) => `${process} pwrite64(9<${file}>, "x"..., 4096, 32) = 4096`;
    const synced = (process: number, file = SEGMENT) => `${process} fdatasync(9<${file}>) = 0`;
    const judged = (...lines: string[]) => analyseTrace(lines.join("\n"), 4_096, POSTGRES_LOG).early;

    test("accepts a sync by another process, and others that go on writing", () => {
      expect(judged(PUT, written(8), synced(9), written(10), ANSWER)).toEqual([]);
    });

    test("a sync is of what was written before it began", () => {
      const [begun, ended] = [`9 fdatasync(9<${SEGMENT}> <unfinished ...>`, "9 <... fdatasync resumed>) = 0"];
      expect(judged(PUT, written(8), begun, ended, ANSWER)).toEqual([]);
      expect(judged(PUT, begun, written(8), ended, ANSWER)).toHaveLength(1);
      const writing = [
        `8 pwrite64(9<${SEGMENT}>, "x"..., 4096, 32 <unfinished ...>`,
        "8 <... pwrite64 resumed>) = 4096",
      ];
      const [first = "", second = ""] = writing;
      expect(judged(PUT, first, begun, second, ended, ANSWER)).toHaveLength(1);
    });

    test.each([
      ["no sync", [PUT, written(8), ANSWER]],
      ["a sync of something else", [PUT, written(8), synced(8, "/data/base/1/2"), ANSWER]],
      [
        "a segment that is only prepared",
        [PUT, ...[written, synced].map((call) => call(8, "/data/pg_wal/xlogtemp.8")), ANSWER],
      ],
      ["a write and sync from before it arrived", [written(8), synced(8), PUT, ANSWER]],
      ["a write that is not synced", [written(8), PUT, synced(8), written(8), ANSWER]],
    ])("finds an answer with %s", (_, lines) => {
      expect(judged(...lines)).toHaveLength(1);
    });

    test("finds an answer that profits from another write's sync", () => {
      const second = (line: string) => line.replace("30<socket:[5]>", "31<socket:[6]>");
      expect(judged(PUT, second(PUT), written(8), synced(8), ANSWER, second(ANSWER))).toHaveLength(1);
    });
  });

  test("a trace without acknowledged writes is an error", () => {
    expect(() => verdict(PUT, WRITE, SYNC)).toThrow("no acknowledged PUT");
  });
});
