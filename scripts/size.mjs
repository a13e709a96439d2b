/** Prints what the SDK with all its dependencies costs whoever ships it: one bundle, minified, then Brotli. In bytes. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";

import { build } from "tsup";

const TARGET = 14_000;
const folder = mkdtempSync(join(tmpdir(), "tacenda-size-"));
try {
  await build({
    config: false,
    entry: { sdk: "packages/sdk/dist/index.js" },
    outDir: folder,
    format: "esm",
    platform: "browser",
    target: "es2023",
    minify: true,
    treeshake: true,
    noExternal: [/./],
    silent: true,
  });
  const bundle = readFileSync(join(folder, "sdk.js"));
  if (/from *"@/.test(bundle.toString())) throw new Error("A dependency was left out of the bundle.");
  const quality = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY };
  const size = brotliCompressSync(bundle, { params: quality }).length;
  console.log(`@tacenda/sdk with all dependencies: ${bundle.length} bytes minified, ${size} with Brotli`);
  console.log(`Target of at most ${TARGET}: ${size <= TARGET ? "met" : "not met"}`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
