/** The packages as npm would publish them, installed together in a fresh project. */

import { execFile } from "node:child_process";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

export const ROOT = join(import.meta.dirname, "../..");
export const PACKAGES = ["protocol", "sdk", "server"] as const;

const execute = promisify(execFile);

/** Runs a program in `folder` and gives its stdout. @throws {Error} with all its output when it fails. */
export async function run(folder: string, command: string, ...args: string[]): Promise<string> {
  try {
    return (await execute(command, args, { cwd: folder })).stdout;
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
    throw new Error(`${command} ${args.join(" ")} failed:\n${stdout}${stderr}`, { cause: error });
  }
}

/** Packs packages, all unless named, below `folder`, installs them in a project there, and gives the project's folder. */
export async function installPacked(folder: string, packages: readonly string[] = PACKAGES): Promise<string> {
  const packs = join(folder, "packs");
  const project = join(folder, "project");
  await mkdir(packs);
  await mkdir(project);
  const workspaces = packages.flatMap((name) => ["-w", `packages/${name}`]);
  await run(ROOT, "npm", "pack", ...workspaces, "--pack-destination", packs);
  const tarballs = (await readdir(packs)).map((name) => join(packs, name));
  await writeFile(join(project, "package.json"), JSON.stringify({ name: "consumer", private: true, type: "module" }));
  const quiet = ["--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"];
  await run(project, "npm", "install", ...quiet, ...tarballs);
  return project;
}

/** Paths of all files in an installed package. */
export async function filesOf(project: string, name: string): Promise<string[]> {
  const folder = join(project, "node_modules/@tacenda", name);
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) =>
      join(entry.parentPath, entry.name)
        .slice(folder.length + 1)
        .replaceAll("\\", "/"),
    );
}
