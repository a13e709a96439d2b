/**
 * `npm run test:runtimes [-- names]`: packs the SDK, runs one suite of it in every runtime against one real server, and
 * prints one table. Exits with 1 when anything failed.
 */

import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { installPacked } from "../consumers/packed.ts";
import { bundleSuite } from "./bundle.ts";
import { RUNTIMES } from "./runtimes.ts";
import { formatTable, type Row } from "./table.ts";
import { openTrial } from "./trial.ts";

const names = process.argv.slice(2);
const unknown = names.filter((name) => !(name in RUNTIMES));
if (unknown.length > 0) {
  console.error(`Unknown: ${unknown.join(", ")}. Name any of: ${Object.keys(RUNTIMES).join(", ")}.`);
  process.exit(1);
}
const chosen = Object.entries(RUNTIMES).filter(([name]) => names.length === 0 || names.includes(name));

const folder = await mkdtemp(join(tmpdir(), "tacenda-runtimes-"));
const rows: Row[] = [];
try {
  console.log("Packing the packages …");
  await mkdir(join(folder, "packed"));
  const project = await installPacked(join(folder, "packed"), ["protocol", "sdk"]);
  await bundleSuite(project);
  await using trial = await openTrial(join(folder, "data"), project);
  for (const [name, runtime] of chosen) {
    console.log(`Running in ${name} …`);
    const row = await trial.run(name, runtime);
    for (const failure of row.failures) console.error(`✗ ${name}: ${failure.name}\n  ${failure.message}`);
    rows.push(row);
  }
} finally {
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}
console.log(formatTable(rows));
process.exitCode = rows.every((row) => row.failures.length === 0 && row.passed > 0) ? 0 : 1;
