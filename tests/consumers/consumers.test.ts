/** What ships is what is tested: the packed packages, installed in a fresh project, used from there. */

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { spawnServer } from "../server-process.ts";
import { PACKAGES, ROOT, filesOf, installPacked, run } from "./packed.ts";
import { CLIENT, EMBEDDED, TYPED_CLIENT, TYPED_EMBEDDED } from "./sources.ts";

const ROOT_TOKEN = "root-token-of-the-consumers-0123456789abcdef";

let folder: string;
let project: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tacenda-consumers-"));
  project = await installPacked(folder);
}, 120_000);
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Writes a program into the project and runs it there; gives what it printed. */
async function runProgram(name: string, source: string, environment: Record<string, string> = {}): Promise<string> {
  await writeFile(join(project, name), source);
  const env = { PATH: process.env.PATH, ...environment };
  const child = spawn(process.execPath, [name], { cwd: project, env, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (part: string) => (output += part));
  await new Promise((resolve) => child.on("close", resolve));
  return output;
}

describe.each(PACKAGES)("the package %s", (name) => {
  test("holds what it should and nothing else", async () => {
    const files = await filesOf(project, name);
    const allowed = /^(dist\/[\w/-]+\.(js|js\.map|d\.ts)|bin\/[\w-]+\.js|LICENSE|README\.md|package\.json)$/;
    expect(files.filter((file) => !allowed.test(file))).toEqual([]);
    expect(files).toEqual(
      expect.arrayContaining(["LICENSE", "README.md", "package.json", "dist/index.js", "dist/index.d.ts"]),
    );
  });

  test("its source maps need no file that is not there", async () => {
    const files = await filesOf(project, name);
    const read = (file: string) => readFile(join(project, "node_modules/@tacenda", name, file), "utf8");
    const scripts = files.filter((file) => file.endsWith(".js") && file.startsWith("dist/"));
    for (const script of scripts) {
      const [, map = ""] = /^\/\/# sourceMappingURL=(.+)$/m.exec(await read(script)) ?? [];
      expect(files, `the map that ${script} names`).toContain(`dist/${map}`);
      const { sources, sourcesContent } = JSON.parse(await read(`dist/${map}`)) as Record<string, unknown[]>;
      expect(sourcesContent?.filter((content) => typeof content === "string")).toHaveLength(sources?.length ?? -1);
    }
  });
});

describe("a consumer in JavaScript", () => {
  test("sets and gets a value on the installed server's command", async () => {
    const bin = join(project, "node_modules/.bin/tacenda-server");
    const server = await spawnServer({ bin, dataDir: join(folder, "data"), rootToken: ROOT_TOKEN });
    const environment = { TACENDA_URL: server.url, TACENDA_TOKEN: ROOT_TOKEN };
    expect(await runProgram("client.mjs", CLIENT, environment)).toBe("value of a consumer\n");
    await server.end("SIGTERM");
  });

  test("embeds a server", async () => {
    expect(await runProgram("embedded.mjs", EMBEDDED)).toBe("200\n");
  });
});

describe.each([
  ["nodenext", "nodenext"],
  ["bundler", "esnext"],
])("a consumer in TypeScript with moduleResolution %s", { timeout: 90_000 }, (moduleResolution, module) => {
  /** Checks the declarations of dependencies too: nothing is skipped. */
  async function compile(file: string, source: string, lib: string[], types: string[]): Promise<void> {
    const config = `tsconfig.${moduleResolution}.${file}.json`;
    const typeRoots = [join(ROOT, "node_modules/@types")];
    const compilerOptions = {
      strict: true,
      noEmit: true,
      target: "es2023",
      module,
      moduleResolution,
      lib,
      types,
      typeRoots,
    };
    await writeFile(join(project, file), source);
    await writeFile(join(project, config), JSON.stringify({ compilerOptions, files: [file] }));
    await run(project, process.execPath, join(ROOT, "node_modules/typescript/bin/tsc"), "-p", config);
  }

  test("compiles against the SDK without Node's types", async () => {
    await compile("client.ts", TYPED_CLIENT, ["es2023", "dom", "esnext.disposable"], []);
  });

  test("compiles against the server", async () => {
    await compile("embedded.ts", TYPED_EMBEDDED, ["es2024", "dom", "dom.iterable", "esnext.disposable"], ["node"]);
  });
});
