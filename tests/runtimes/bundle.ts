/** Compiles the suite beside the installed packages, and bundles it with them for runtimes that have no node_modules. */

import { mkdir } from "node:fs/promises";
import { join } from "node:path";

import { build, type Options } from "tsup";

const SUITE = join(import.meta.dirname, "suite");

const COMMON: Options = {
  config: false,
  format: "esm",
  target: "es2023",
  splitting: false,
  clean: false,
  silent: true,
};

/** Writes process.js and samples.js, which import @tacenda/sdk, and page.js and worker.js, which hold it. */
export async function bundleSuite(project: string): Promise<void> {
  const compiled = join(project, "compiled");
  await mkdir(compiled);
  const entry = (names: string[], folder: string, extension: string) =>
    Object.fromEntries(names.map((name) => [name, join(folder, `${name}.${extension}`)]));
  const leaving: Options = { ...COMMON, platform: "neutral", external: ["@tacenda/sdk"] };
  await build({ ...leaving, entry: entry(["process", "samples"], SUITE, "ts"), outDir: project });
  await build({ ...leaving, entry: entry(["page", "worker"], SUITE, "ts"), outDir: compiled });
  // From below the project, so that the packages are those that were packed.
  const inward: Options = { ...COMMON, platform: "browser", noExternal: [/./] };
  await build({ ...inward, entry: entry(["page", "worker"], compiled, "js"), outDir: project });
}
