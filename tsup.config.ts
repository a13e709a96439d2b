import { basename } from "node:path";

import { defineConfig, type Options } from "tsup";

/** Declarations come from `tsc -b` (scripts/build.mjs); tsup makes the JavaScript beside them. */
function library(name: string, entry: string[]): Options {
  return {
    name,
    // Side by side in dist, wherever they are in src.
    entry: Object.fromEntries(entry.map((file) => [basename(file, ".ts"), `packages/${name}/src/${file}`])),
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
  library("server", ["index.ts", "main.ts", "envelope/providers/pkcs11-child.ts", "storage/sqlite-checkpoint.ts"]),
]);
