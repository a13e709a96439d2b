/**
 * Builds the Dockerfile where there is no container registry, and runs what comes of it: `npm run check:docker`, as root on Debian,
 * some minutes. The steps are run by buildah on a stand-in for the base image: Debian by debootstrap with this machine's Node and
 * npm in it. What it cannot show is that the real base image is there and fits.
 */
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { check, fail, needRoot, output, run } from "./trial.mjs";

const root = join(import.meta.dirname, "..");
const UID = 10001;
const PORT = 14_200;

needRoot({ buildah: "buildah", debootstrap: "debootstrap" });

// Kept when TACENDA_DOCKER_CHECK names it: the next run then begins with the base image.
const kept = process.env.TACENDA_DOCKER_CHECK;
const folder = kept ?? mkdtempSync(join(tmpdir(), "tacenda-docker-"));
const storage = ["--root", join(folder, "storage"), "--runroot", join(folder, "run")];
const base =
  /^FROM (\S+)$/m.exec(readFileSync(join(root, "Dockerfile"), "utf8"))?.[1] ?? fail("The Dockerfile has no base.");
try {
  if (!hasImage(base)) makeBase();
  run("buildah", [
    ...storage,
    "build",
    "--pull-never",
    "--isolation",
    "chroot",
    "--format",
    "docker",
    "--tag",
    "tacenda-server",
    root,
  ]);
  await runImage();
  console.log("The image builds and runs.");
} finally {
  if (kept === undefined) rmSync(folder, { recursive: true, force: true });
}

function makeBase() {
  const rootfs = join(folder, "rootfs");
  if (!existsSync(join(rootfs, "etc/debian_version"))) {
    mkdirSync(folder, { recursive: true });
    run("debootstrap", ["--variant=minbase", "bookworm", rootfs]);
  }
  const npm = dirname(dirname(realpathSync(output("which", ["npm"]))));
  cpSync(process.execPath, join(rootfs, "usr/local/bin/node"));
  cpSync(npm, join(rootfs, "usr/local/lib/node_modules/npm"), { recursive: true });
  for (const name of ["npm", "npx"]) {
    rmSync(join(rootfs, "usr/local/bin", name), { force: true });
    symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, join(rootfs, "usr/local/bin", name));
  }
  const container = output("buildah", [...storage, "from", "scratch"]);
  run("buildah", [...storage, "add", "--quiet", container, rootfs, "/"]);
  // Where the way to the registry has a certificate authority of its own.
  const authorities = process.env.NODE_EXTRA_CA_CERTS;
  if (authorities) {
    run("buildah", [...storage, "copy", "--quiet", container, authorities, authorities]);
    run("buildah", [...storage, "config", "--env", `NODE_EXTRA_CA_CERTS=${authorities}`, container]);
  }
  run("buildah", [...storage, "commit", "--quiet", "--rm", "--format", "docker", container, base]);
  rmSync(rootfs, { recursive: true });
}

function hasImage(name) {
  return spawnSync("buildah", [...storage, "inspect", "--type", "image", name]).status === 0;
}

/** What an engine would do with it: the entry point as its user, on a root that cannot be written, with one volume that can. */
async function runImage() {
  const { config } = JSON.parse(output("buildah", [...storage, "inspect", "--type", "image", "tacenda-server"])).Docker;
  check(config.User === `${UID}:${UID}`, `it runs as ${UID}`);
  check(Object.keys(config.Volumes).join() === "/var/lib/tacenda", "it has a volume for the data");
  check(config.Entrypoint[0] === "node" && config.Healthcheck.Test[0] === "CMD", "no shell is in between");

  const container = output("buildah", [...storage, "from", "--pull-never", "tacenda-server"]);
  const rootfs = output("buildah", [...storage, "mount", container]);
  const sizes = output("du", ["-sm", rootfs, join(rootfs, "opt/tacenda")]).split("\n");
  console.log(
    `MiB: ${sizes.map((line) => line.replace(rootfs, "").replace("\t", " /").replace("//", "/")).join(", ")}`,
  );
  // A mount namespace of its own, in which the root is read-only and the volume is not.
  const mount = ["mount --bind . .", "mount --bind var/lib/tacenda var/lib/tacenda", "mount -o remount,bind,ro ."].join(
    " && ",
  );
  const inside = (command) => [
    ...["--mount", "--propagation", "private", "sh", "-c", `cd "$0" && ${mount} && exec "$@"`, rootfs],
    ...["chroot", `--userspec=${UID}:${UID}`, ".", "env", "-i", ...config.Env, `TACENDA_PORT=${PORT}`, ...command],
  ];
  const server = spawn("unshare", inside([...config.Entrypoint, ...config.Cmd]), {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let log = "";
  server.stdout.on("data", (part) => (log += part));
  const ended = new Promise((resolve) => server.once("exit", (code, signal) => resolve({ code, signal })));
  try {
    for (let left = 100; !log.includes('"listening"') && left > 0 && server.exitCode === null; left--) await sleep(100);
    check(log.includes('"listening"'), "it listens");
    const health = () => spawnSync("unshare", inside(config.Healthcheck.Test.slice(1))).status;
    check(health() === 0, "its health check passes");
    const ready = await globalThis.fetch(`http://127.0.0.1:${PORT}/readyz`);
    check(ready.status === 200, "it is ready");
    const written = spawnSync("unshare", inside(["touch", "/opt/tacenda/written"]));
    check(written.status !== 0, "it writes nowhere but into its volume");
    server.kill("SIGTERM");
    const { code } = await ended;
    check(code === 0 && log.includes('"stopped"'), "SIGTERM stops it in order");
    check(health() === 1, "its health check fails then");
  } finally {
    server.kill("SIGKILL");
    await ended;
    run("buildah", [...storage, "rm", container]);
  }
}
