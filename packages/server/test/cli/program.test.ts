/** The program as a process: flags, environment, signals, `dev`, `kill -9`; spec/http.md. */

import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
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

/** `uid` as in spawn. */
function run(args: string[], environment: Record<string, string> = {}, uid?: number): ChildProcess {
  const child = spawn(process.execPath, [BIN, ...args], {
    env: { PATH: process.env.PATH, TACENDA_DATA_DIR: folder, TACENDA_PORT: "0", ...environment },
    stdio: ["ignore", "pipe", "pipe"],
    ...(uid !== undefined && { uid }),
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
      [["sevre"], {}, "unknown command 'sevre'"],
      [["--port", "0", "sevre"], {}, "unknown command 'sevre'"],
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

describe("help", () => {
  test("shows the flags of serve, the way to those of dev, the source of the root token, and the version", async () => {
    const { code, output } = await exitOf(run(["--help"]));
    expect(code).toBe(0);
    for (const word of ["--data-dir", "TACENDA_PORT", "dev --help", "TACENDA_ROOT_TOKEN", "first start"]) {
      expect(output).toContain(word);
    }
    expect((await exitOf(run(["serve", "--help"]))).output).toContain("TACENDA_ROOT_TOKEN");
    const manifest = JSON.parse(await readFile(join(ROOT, "packages/server/package.json"), "utf8")) as {
      version: string;
    };
    expect(await exitOf(run(["--version"]))).toEqual({ code: 0, output: `${manifest.version}\n` });
  });
});

describe("signals", () => {
  // Milliseconds: while the server closes, and while the process winds down.
  test.each([2, 8])("a SIGINT that is repeated after %i ms changes nothing", async (gap) => {
    const child = run([]);
    await listening(child);
    const ended = exitOf(child);
    child.kill("SIGINT");
    // A timer would be late.
    for (const begun = performance.now(); performance.now() - begun < gap;);
    child.kill("SIGINT");
    const { code, output } = await ended;
    expect([code, child.signalCode]).toEqual([0, null]);
    expect(output).toContain('"stopped"');
    expect((await readdir(folder)).sort()).toEqual(["keyring.json", "lock", "root-token", "tacenda.db"]);
    await listening(run([]));
  });

  test("one that comes a second later ends the process although a request is under way", async () => {
    const child = run([]);
    const { url } = await listening(child);
    const ended = exitOf(child);
    const socket = connect(Number(new URL(url).port), "127.0.0.1").on("error", () => undefined);
    await once(socket, "connect");
    socket.write("GET /livez HTTP/1.1\r\n");
    await sleep(200);
    child.kill("SIGINT");
    await sleep(1_100);
    expect(child.exitCode).toBeNull();
    child.kill("SIGINT");
    const { code, output } = await ended;
    expect(code).toBe(130);
    expect(output).toContain('"stopping at once"');
    socket.destroy();
  });
});

describe("the log", () => {
  test.runIf(existsSync("/proc/self/io"))("an idle server writes nothing", async () => {
    const child = run([]);
    await listening(child);
    const writes = async () =>
      Number(/^syscw: (\d+)$/m.exec(await readFile(`/proc/${child.pid ?? 0}/io`, "utf8"))?.[1] ?? NaN);
    await sleep(1_000);
    const before = await writes();
    await sleep(2_000);
    expect((await writes()) - before).toBeLessThan(5);
  });

  test("warns of a new database under a used keyring, and of a directory that was open to others", async () => {
    const first = run([]);
    expect((await listening(first)).before.join()).not.toMatch(/keyring|open to other/);
    first.kill("SIGTERM");
    await once(first, "exit");
    await rm(join(folder, "tacenda.db"));
    await chmod(folder, 0o755);
    const log = (await listening(run([]))).before.join("\n");
    expect(log).toContain("the keyring has served a database before; this one is new");
    expect(log).toContain(join(folder, "keyring.json"));
    expect(log).toContain("its mode is now 0700");
    expect((await stat(folder)).mode & 0o777).toBe(0o700);
  });

  test("a directory that holds other things keeps its mode, with a warning", async () => {
    await mkdir(join(folder, "photos"), { recursive: true });
    await chmod(folder, 0o755);
    expect((await listening(run([]))).before.join()).toContain("use one of its own");
    expect((await stat(folder)).mode & 0o777).toBe(0o755);
  });
});

describe("what prevents a start is a sentence, and 1", () => {
  async function refusal(args: string[], uid?: number): Promise<string> {
    const child = run(args, { TACENDA_LOG_LEVEL: "error" }, uid);
    const { code, output } = await exitOf(child);
    expect(code).toBe(1);
    expect(output).toMatch(/^tacenda-server: [^\n{]*\n$/);
    return output;
  }

  test("a data directory that is a file", async () => {
    await writeFile(folder, "");
    expect(await refusal([])).toContain(
      `Cannot use the data directory ${folder} (ENOTDIR): it must be a folder this user can write.`,
    );
    expect(await refusal(["--data-dir", join(folder, "below")])).toContain("(ENOTDIR)");
  });

  test("a data directory that this user cannot write", async () => {
    await chmod(join(folder, ".."), 0o500);
    // Nothing is forbidden to root.
    const nobody = process.getuid?.() === 0 ? 65_534 : undefined;
    expect(await refusal([], nobody)).toContain(`Cannot use the data directory ${folder} (EACCES)`);
  });

  test("a command for the data directory of another user, which is not taken for none", async () => {
    const isRoot = process.getuid?.() === 0;
    await chmod(join(folder, ".."), 0o755);
    await mkdir(folder, { mode: 0o700 });
    await writeFile(join(folder, "tacenda.db"), "", { mode: 0o600 });
    onTestFinished(() => chmod(folder, 0o700));
    for (const [path, mode] of [
      [folder, 0o755],
      [join(folder, "tacenda.db"), isRoot ? 0o600 : 0o000],
      [folder, isRoot ? 0o700 : 0o000],
    ] as const) {
      await chmod(path, mode);
      if (mode === 0o755) continue;
      for (const args of [["backup", join(folder, "..", "backup")], ["reset-root-token"]]) {
        expect(await refusal(args, isRoot ? 65_534 : undefined)).toBe(
          `tacenda-server: The data directory ${folder} cannot be read (EACCES): run this as the server's user.\n`,
        );
      }
    }
  });

  test("a database that is none", async () => {
    await mkdir(folder, { mode: 0o700 });
    await writeFile(join(folder, "tacenda.db"), "x".repeat(5_000));
    const output = await refusal([]);
    expect(output).toContain("Check that it is a Tacenda database");
    expect(output).toContain("SQLITE_NOTADB; --log-level debug shows the stack");
    const verbose = await exitOf(run(["--log-level", "debug"]));
    expect(verbose.output).toMatch(/"stack":" +at /);
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

  describe("with a file", () => {
    const devInto = (file: string) => run(["dev", "--write-env", file]);
    const linesOf = async (file: string) => (await readFile(file, "utf8")).trimEnd().split("\n");

    test("writes the lines when it listens; a second time keeps the secret and all that is not its own", async () => {
      const file = join(folder, "..", ".env");
      const first = devInto(file);
      const { line } = await lineThat(first, /./);
      expect(line).toContain(file);
      const [url = "", , , , secret = ""] = await linesOf(file);
      expect((await fetch(`${url.replace("TACENDA_URL=", "")}/livez`)).status).toBe(200);
      expect(secret).toMatch(/^TACENDA_SECRET=tcs_[0-9A-Za-z]{49}$/);
      expect((await stat(file)).mode & 0o777).toBe(0o600);
      first.kill("SIGTERM");
      await once(first, "exit");

      await writeFile(file, `# mine\n${await readFile(file, "utf8")}OTHER=1\n`);
      await chmod(file, 0o644);
      await lineThat(devInto(file), /./);
      const lines = await linesOf(file);
      expect(lines.filter((text) => !text.startsWith("TACENDA_"))).toEqual(["# mine", "OTHER=1"]);
      expect(lines.filter((text) => text.startsWith("TACENDA_"))).toHaveLength(5);
      expect(lines).toContain(secret);
      expect(lines).not.toContain(url);
      expect((await stat(file)).mode & 0o777).toBe(0o600);
      expect(await readdir(join(folder, ".."))).toEqual([".env", "data"]);
    });

    test("leaves the file alone when the server cannot start", async () => {
      const file = join(folder, "..", ".env");
      await writeFile(file, "TACENDA_SECRET=precious\n");
      await listening(run([]));
      expect((await exitOf(devInto(file))).code).toBe(1);
      expect(await readFile(file, "utf8")).toBe("TACENDA_SECRET=precious\n");
    });

    test("makes no store when the file cannot be written, so that no secret is lost", async () => {
      const { code, output } = await exitOf(devInto(join(folder, "nowhere", ".env")));
      expect(code).toBe(1);
      expect(output).toMatch(/Cannot write .*nowhere.*\(ENOENT\)/);
      const file = join(folder, "..", ".env");
      await lineThat(devInto(file), /./);
      expect(await readFile(file, "utf8")).toContain("TACENDA_SECRET=tcs_");
    });
  });
});
