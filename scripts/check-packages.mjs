/** Checks what would be published: publint reads each package as npm would pack it, attw resolves its types as consumers do. */
import { spawnSync } from "node:child_process";

for (const name of ["protocol", "sdk", "server"]) {
  const folder = `packages/${name}`;
  const checks = [
    ["publint", "--strict", folder],
    ["attw", "--pack", folder, "--profile", "esm-only", "--format", "ascii", "--no-emoji"],
  ];
  for (const [command, ...args] of checks) {
    console.log(`${command} ${folder}`);
    const { status } = spawnSync(command, args, { stdio: "inherit", shell: process.platform === "win32" });
    if (status !== 0) process.exit(status ?? 1);
  }
}
