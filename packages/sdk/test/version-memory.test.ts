import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { describe, expect, onTestFinished, test } from "vitest";

import { Marks, type VersionMemory } from "../src/marks.js";
import { ConfigurationError } from "../src/errors.js";
import { openVersionMemory } from "../src/version-memory.js";

const mark = (version: number, fill: number) => ({ version, commitment: new Uint8Array(32).fill(fill) });

function freshFile(): string {
  const folder = mkdtempSync(join(tmpdir(), "tacenda-marks-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, "marks.db");
}

function openFile(file = freshFile(), options = {}) {
  const memory = openVersionMemory(file, options);
  onTestFinished(() => memory.close());
  return memory;
}

const memories: [string, () => VersionMemory][] = [
  ["memory", () => new Marks()],
  ["file", () => openFile()],
];

describe.each(memories)("marks in %s", (_, open) => {
  test("are raised, never lowered, and keep the first commitment of a version", async () => {
    const memory = open();
    expect(await memory.get("h")).toBeUndefined();
    expect(await memory.raise("h", mark(3, 1))).toBe(true);
    expect(await memory.raise("h", mark(2, 2))).toBe(true);
    expect(await memory.raise("h", mark(3, 3))).toBe(false);
    const kept = await memory.get("h");
    expect([kept?.version, Uint8Array.from(kept?.commitment ?? [])]).toEqual([3, mark(3, 1).commitment]);
    expect(await memory.raise("h", mark(2 ** 53 - 1, 4))).toBe(true);
    expect((await memory.get("h"))?.version).toBe(2 ** 53 - 1);
    expect(await memory.get("other")).toBeUndefined();
    await memory.forget("h");
    expect(await memory.get("h")).toBeUndefined();
  });
});

describe("a file", () => {
  test("is readable by its owner only, and outlives the process", () => {
    const file = freshFile();
    const first = openVersionMemory(file);
    first.raise("h", mark(7, 7));
    first.close();
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(openFile(file).get("h")?.version).toBe(7);
  });

  test("is bounded; what was not used for longest goes first", () => {
    const file = freshFile();
    const memory = openFile(file, { maxMarks: 100 });
    for (let index = 0; index < 3_000; index++) memory.raise(`h${index}`, mark(1, 1));
    const kept = Array.from({ length: 3_000 }, (_, index) => memory.get(`h${index}`)).filter(Boolean);
    expect(kept.length).toBeGreaterThanOrEqual(100);
    expect(kept.length).toBeLessThanOrEqual(1_101);
    expect(memory.get("h2999")).toBeDefined();
    expect(() => openVersionMemory(file, { maxMarks: 0 })).toThrow(ConfigurationError);
  });

  test("is shared by several processes, each raising as fast as it can, and survives kill -9", async () => {
    const file = freshFile();
    const memory = openFile(file);
    const library = fileURLToPath(new URL("../dist/version-memory.js", import.meta.url));
    const program = `
      import { openVersionMemory } from ${JSON.stringify(library)};
      const memory = openVersionMemory(process.argv[1]);
      const fill = Number(process.argv[2]);
      for (let version = fill; ; version += 4) {
        memory.raise("h", { version, commitment: new Uint8Array(32).fill(version % 251) });
        process.stdout.write(version + "\\n");
      }`;
    const acknowledged = await Promise.all(
      [1, 2, 3].map(async (fill) => {
        const child = spawn(process.execPath, ["--input-type=module", "-e", program, file, String(fill)]);
        let output = "";
        child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
        await once(child.stdout, "data");
        await new Promise((resolve) => setTimeout(resolve, 300 + fill * 100));
        child.kill("SIGKILL");
        await once(child, "close");
        const lines = output.split("\n").slice(0, -1);
        return Number(lines.at(-1));
      }),
    );
    const kept = memory.get("h");
    expect(kept?.version).toBeGreaterThanOrEqual(Math.max(...acknowledged));
    expect(kept?.commitment[0]).toBe((kept?.version ?? 0) % 251);
  });
});
