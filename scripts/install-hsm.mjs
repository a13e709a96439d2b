/**
 * Installs what the tests on hardware tokens need: SoftHSM, a token in software, and pkcs11js, which is compiled here. The
 * package gets a lock of its own, because nothing else in the repository is compiled; a link in packages/, which `npm ci` leaves
 * alone, lets the server find it as it finds an installed one.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join, relative } from "node:path";

const root = join(import.meta.dirname, "..");
const native = join(root, "packages/server/test/native");
const built = join(native, "node_modules/pkcs11js");
const link = join(root, "packages/node_modules/pkcs11js");

function run(command, args, cwd = root) {
  console.log(`${command} ${args.join(" ")}`);
  const { status, error } = spawnSync(command, args, { cwd, stdio: "inherit", shell: process.platform === "win32" });
  if (error) console.error(`Cannot run ${command} (${error.code}).`);
  if (status !== 0) process.exit(status ?? 1);
}

function hasSoftHsm() {
  return spawnSync("softhsm2-util", ["--version"]).status === 0;
}

if (!hasSoftHsm()) {
  if (process.getuid?.() !== 0 || spawnSync("apt-get", ["--version"]).status !== 0) {
    console.error(
      "SoftHSM is not installed: install softhsm2 (Debian, Ubuntu) or softhsm (Homebrew, Fedora), and run this again.",
    );
    process.exit(1);
  }
  run("apt-get", ["update", "-qq"]);
  run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", "softhsm2"]);
}

run("npm", ["ci", "--no-audit", "--no-fund"], native);
if (!existsSync(join(built, "build/Release/pkcs11.node"))) {
  console.error(
    "pkcs11js was installed and not compiled: see what npm said above. It needs python3, make and a C++ compiler.",
  );
  process.exit(1);
}
mkdirSync(dirname(link), { recursive: true });
rmSync(link, { force: true });
symlinkSync(relative(dirname(link), built), link, "junction");
console.log(`SoftHSM and pkcs11js are there: ${link}`);
