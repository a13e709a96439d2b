/** The program as a process: flags, environment, signals, `dev`, `kill -9`; spec/http.md. */

import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";

import { hasValidChecksum } from "../../src/auth/tokens.js";
import { freshFolder } from "../world.js";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
const BIN = join(ROOT, "packages/server/bin/tacenda-server.js");

let folder: string;

beforeAll(async () => {
  await promisify(execFile)(process.execPath, ["scripts/ensure-built.mjs"], { cwd: ROOT });
});

beforeEach(async () => {
  folder = join(await freshFolder(), "data");
});

function run(args: string[], environment: Record<string, string> = {}): ChildProcess {
  const child = spawn(process.execPath, [BIN, ...args], {
    env: { PATH: process.env.PATH, TACENDA_DATA_DIR: folder, TACENDA_PORT: "0", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  return child;
}

async function exitOf(child: ChildProcess): Promise<{ code: number | null; output: string }> {
  let output = "";
  child.stdout?.on("data", (chunk) => (output += String(chunk)));
  child.stderr?.on("data", (chunk) => (output += String(chunk)));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, output };
}

/** The first line of stdout that matches, and all before it. */
async function lineThat(child: ChildProcess, pattern: RegExp): Promise<{ line: string; before: string[] }> {
  if (child.stdout === null) throw new Error("The process has no stdout.");
  const before: string[] = [];
  for await (const line of createInterface(child.stdout)) {
    if (pattern.test(line)) return { line, before };
    before.push(line);
  }
  throw new Error(`No line matches ${String(pattern)}: ${before.join("\n")}`);
}

async function listening(child: ChildProcess): Promise<{ url: string; before: string[] }> {
  const { line, before } = await lineThat(child, /"listening"/);
  return { url: (JSON.parse(line) as { url: string }).url, before };
}

describe("serve", () => {
  test("listens on a free port, stops on a signal with 0, and can start again", async () => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      const child = run([]);
      const { url } = await listening(child);
      expect((await fetch(`${url}/livez`)).status).toBe(200);
      child.kill(signal);
      expect(await once(child, "exit")).toEqual([0, null]);
    }
  });

  test("can start again after kill -9, but not beside another", async () => {
    const child = run(["serve"]);
    await listening(child);
    const refused = await exitOf(run([]));
    expect(refused.code).toBe(1);
    expect(refused.output).toContain("Another Tacenda server");
    child.kill("SIGKILL");
    await once(child, "exit");
    await listening(run([]));
  });

  test("says where the root token is when there is no terminal, and not what it is", async () => {
    const { before } = await listening(run([]));
    const log = before.join("\n");
    expect(log).toContain(join(folder, "root-token"));
    expect(log).not.toContain("tct_");
    expect(existsSync(join(folder, "root-token"))).toBe(true);
  });

  test("takes flags before environment", async () => {
    const given = join(folder, "..", "given");
    const child = run(["--data-dir", given, "--log-level", "info"], {
      TACENDA_LOG_LEVEL: "silent",
      TACENDA_METRICS_PORT: "0",
    });
    const { line } = await lineThat(child, /"listening"/);
    expect(line).toMatch(/"metricsUrl":"http:\/\/127\.0\.0\.1:\d+\/metrics"/);
    expect(existsSync(given)).toBe(true);
    expect(existsSync(folder)).toBe(false);
  });

  test("refuses bad values with 2 and a word on what is wrong", async () => {
    for (const [args, environment, word] of [
      [["--port", "70000"], {}, "0 to 65535"],
      [["--port", "80x"], {}, "0 to 65535"],
      [[], { TACENDA_PORT: "-1" }, "TACENDA_PORT"],
      [["--max-connections", "0"], {}, "from 1"],
      [["--log-level", "loud"], {}, "Allowed choices"],
      [["--cors-origin", "https://a.example/path"], {}, "one origin"],
      [["--cors-origin", "*"], {}, "one origin"],
      [["--nothing"], {}, "unknown option"],
      [["nothing"], {}, "too many arguments"],
      [["dev", "--store", "UPPER"], {}, "must match"],
      [[], { TACENDA_ROOT_TOKEN: "too-short" }, "at least 32"],
    ] as const) {
      const { code, output } = await exitOf(run([...args], environment));
      expect([args, code]).toEqual([args, 2]);
      expect(output).toContain(word);
      expect(output).not.toContain("too-short");
    }
  });
});

describe("dev", () => {
  async function environmentOf(child: ChildProcess): Promise<{ values: Map<string, string>; last: string }> {
    const { line, before } = await lineThat(child, /TACENDA_SECRET/);
    const pairs = [...before, line].filter((text) => !text.startsWith("#")).map((text) => text.split("=", 2));
    return { values: new Map(pairs.map(([name = "", value = ""]) => [name, value])), last: line };
  }

  test("prints what a client needs; a second time all but the secret", async () => {
    const first = run(["dev"]);
    const { values } = await environmentOf(first);
    expect([...values.keys()]).toEqual([
      "TACENDA_URL",
      "TACENDA_TOKEN",
      "TACENDA_PROJECT",
      "TACENDA_STORE",
      "TACENDA_SECRET",
    ]);
    const secret = values.get("TACENDA_SECRET") ?? "";
    expect(secret).toMatch(/^tcs_[0-9A-Za-z]{49}$/);
    expect(hasValidChecksum(secret)).toBe(true);
    const whoAmI = async (found: Map<string, string>): Promise<unknown> =>
      await (
        await fetch(`${found.get("TACENDA_URL") ?? ""}/v1/token`, {
          headers: { authorization: `Bearer ${found.get("TACENDA_TOKEN") ?? ""}` },
        })
      ).json();
    const grants = [{ stores: ["dev"], permissions: ["read", "write", "delete"] }];
    expect(await whoAmI(values)).toMatchObject({ project: "default", grants });
    first.kill("SIGTERM");
    expect(await once(first, "exit")).toEqual([0, null]);

    const again = await environmentOf(run(["dev"]));
    expect(again.last).toMatch(/^# TACENDA_SECRET: .*keep using/);
    expect(again.values.get("TACENDA_TOKEN")).not.toBe(values.get("TACENDA_TOKEN"));
    expect(await whoAmI(again.values)).toMatchObject({ project: "default", grants });
  });
});
