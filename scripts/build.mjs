/** Removes every dist, writes the declarations with tsc, then the JavaScript beside them with tsup. */
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";

function run(command, ...args) {
  const { status } = spawnSync(command, args, { stdio: "inherit", shell: process.platform === "win32" });
  if (status !== 0) process.exit(status ?? 1);
}

for (const name of ["protocol", "sdk", "server"]) rmSync(`packages/${name}/dist`, { recursive: true, force: true });
run("tsc", "-b", "--force");
run("tsup");
