/**
 * Writes the known answers of spec/vectors from the reference implementation; with --check it compares them instead and
 * fails on any difference. The folder `record` is given, not generated, and never written.
 */

import { mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { vectorFiles } from "../tests/reference/cases/all.ts";

const folder = join(import.meta.dirname, "../spec/vectors");
const files = vectorFiles();

const present = readdirSync(folder, { recursive: true })
  .map((path) => path.replaceAll("\\", "/"))
  .filter((path) => statSync(join(folder, path)).isFile())
  .filter((path) => path.endsWith(".json") && !path.startsWith("record/"));
const extra = present.filter((path) => !files.has(path));
const different = [...files].filter(
  ([path, text]) => !present.includes(path) || readFileSync(join(folder, path), "utf8") !== text,
);

if (process.argv.includes("--check")) {
  for (const path of extra) console.error(`spec/vectors/${path} is not made by any case`);
  for (const [path] of different) console.error(`spec/vectors/${path} differs from what the reference gives`);
  if (extra.length + different.length > 0) {
    console.error("Look at what changed; if the specification meant it, run: npx node scripts/make-vectors.mjs");
    process.exit(1);
  }
  console.log(`${files.size} vectors are what the reference gives`);
} else {
  for (const path of extra) rmSync(join(folder, path));
  for (const [path, text] of different) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  console.log(`${files.size} vectors: ${different.length} written, ${extra.length} removed`);
}
