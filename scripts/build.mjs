/** Removes every dist, writes the declarations with tsc, then the JavaScript beside them with tsup. */
import { spawnSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { stdio: "inherit", shell: process.platform === "win32" });
  if (error) console.error(`Cannot run ${command} (${error.code}).`);
  if (status !== 0) process.exit(status ?? 1);
}

if (!existsSync("node_modules/tsup") || !process.env.PATH.includes("node_modules")) {
  console.error("Run `npm ci` first, and build by `npm run build`.");
  process.exit(1);
}
for (const name of ["protocol", "sdk", "server"]) rmSync(`packages/${name}/dist`, { recursive: true, force: true });
run("tsc", "-b", "--force");
run("tsup");
