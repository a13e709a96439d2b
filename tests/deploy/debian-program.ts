/** Programs that checks and tests need and nobody has to install: fetched from Debian's packages and unpacked below node_modules. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

const FOLDER = join(import.meta.dirname, "../../node_modules/.cache/debian");

/**
 * The path of a program of a Debian package, for instance `debianProgram("nginx", "usr/sbin/nginx")`; null where it cannot be had or
 * does not run.
 */
export function debianProgram(name: string, path: string): string | null {
  const folder = join(FOLDER, name);
  const program = join(folder, path);
  if (!existsSync(program)) unpack(name, folder);
  // One that lacks a library ends with 127 or a signal; what it makes of the flag is its own affair.
  const { status } = spawnSync(program, ["-v"], { stdio: "ignore" });
  return status === null || status === 127 ? null : program;
}

/** Into a folder of this process's own first: others may want the same at the same time. */
function unpack(name: string, folder: string): void {
  const own = `${folder}-${process.pid}`;
  rmSync(own, { recursive: true, force: true });
  mkdirSync(join(own, "root"), { recursive: true });
  const download = () => spawnSync("apt-get", ["download", "-qq", name], { cwd: own, stdio: "ignore" }).status === 0;
  if (download() || (spawnSync("apt-get", ["update", "-qq"], { stdio: "ignore" }).status === 0 && download())) {
    const archive = readdirSync(own).find((file) => file.endsWith(".deb"));
    const { status } = spawnSync("dpkg-deb", ["-x", join(own, archive ?? ""), join(own, "root")], { stdio: "ignore" });
    if (status === 0 && !existsSync(folder)) renameSync(join(own, "root"), folder);
  }
  rmSync(own, { recursive: true, force: true });
}
