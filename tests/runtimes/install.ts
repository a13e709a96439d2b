/** Installs runtimes from the registries: those of npm each below a folder of its own, Chromium as Debian packages it. */

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import { ROOT, run } from "../consumers/packed.ts";

/** Not the repository's own node_modules/.bin, whose `node` they would replace. */
const PREFIXES = join(ROOT, "node_modules/.cache/runtimes");

const execute = promisify(execFile);

/** Installs this version of an npm package, unless it is there, runs its script if one is named, and gives its folder. */
export async function installFromNpm(name: string, version: string, script?: string): Promise<string> {
  const prefix = join(PREFIXES, `${name}-${version}`);
  const folder = join(prefix, "node_modules", name);
  const marker = join(prefix, "installed");
  if (existsSync(marker)) return folder;
  await rm(prefix, { recursive: true, force: true });
  await mkdir(prefix, { recursive: true });
  await writeFile(join(prefix, "package.json"), JSON.stringify({ name: "runtime", private: true }));
  await run(prefix, "npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", `${name}@${version}`);
  if (script !== undefined) await run(folder, process.execPath, script);
  await writeFile(marker, "");
  return folder;
}

/** The path of Debian's Chromium, installed first if it is missing (which takes root). */
export async function installChromium(): Promise<string> {
  const path = await which("chromium");
  if (path !== null) return path;
  await run(ROOT, "apt-get", "update", "-qq");
  await run(ROOT, "apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium");
  const installed = await which("chromium");
  if (installed === null) throw new Error("The package chromium was installed, but there is no command chromium.");
  return installed;
}

/** The first version number that a program prints when asked for its version. */
export async function versionOf(command: readonly string[]): Promise<string> {
  const [program = "", ...args] = command;
  const { stdout } = await execute(program, [...args, "--version"]);
  return /\d+(?:[.-]\d+)+/.exec(stdout)?.[0] ?? stdout.trim();
}

async function which(command: string): Promise<string | null> {
  try {
    return (await execute("which", [command])).stdout.trim();
  } catch {
    return null;
  }
}
