/** Runs one example by name, or with no name all that need nothing from outside. */
import { spawnSync } from "node:child_process";

const SELF_CONTAINED = ["quickstart", "oauth-tokens", "connection-strings"];
const names = process.argv.length > 2 ? process.argv.slice(2) : SELF_CONTAINED;
for (const name of names) {
  const { status } = spawnSync(process.execPath, [`examples/${name}.ts`], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
