/** Runs one example by name, or with no name all that need nothing from outside. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

const SELF_CONTAINED = ["quickstart", "oauth-tokens", "connection-strings", "key-rotation"];
const names = process.argv.length > 2 ? process.argv.slice(2) : SELF_CONTAINED;
for (const name of names) {
  if (!existsSync(`examples/${name}.ts`)) {
    console.error(`There is no example ${name}. There are: ${[...SELF_CONTAINED, "from-env"].join(", ")}.`);
    process.exit(2);
  }
  const { status } = spawnSync(process.execPath, [`examples/${name}.ts`], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
