import { defineConfig, type Options } from "tsup";

/** Declarations come from `tsc -b` (scripts/build.mjs); tsup makes the JavaScript beside them. */
function library(name: string, entry: string[]): Options {
  return {
    name,
    entry: entry.map((file) => `packages/${name}/src/${file}`),
    outDir: `packages/${name}/dist`,
    format: "esm",
    target: "es2023",
    platform: name === "server" ? "node" : "neutral",
    sourcemap: true,
    clean: false,
    skipNodeModulesBundle: true,
    silent: true,
  };
}

export default defineConfig([
  library("protocol", ["index.ts"]),
  library("sdk", ["index.ts", "admin.ts", "version-memory.ts"]),
  library("server", ["index.ts", "main.ts"]),
]);
