/**
 * Installs what the failover tests need: PostgreSQL, Patroni and etcd, from Debian's packages. None of them is started, now or when
 * the machine is: the tests run them as the user `postgres` in folders and on ports of their own.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";

/** Installed packages ask it whether they may start their services. Images of containers have one that forbids it. */
const POLICY = "/usr/sbin/policy-rc.d";
const CLUSTER_SETTINGS = "/etc/postgresql-common/createcluster.conf";

const missing = [
  { name: "postgresql", isThere: hasPostgres(), services: ["postgresql"] },
  { name: "patroni", isThere: existsSync("/usr/bin/patroni"), services: ["patroni"] },
  { name: "etcd-server", isThere: existsSync("/usr/bin/etcd"), services: ["etcd"] },
].filter(({ isThere }) => !isThere);

if (missing.length > 0) {
  if (process.getuid?.() !== 0 || spawnSync("apt-get", ["--version"]).status !== 0) {
    console.error(
      `Not installed: ${missing.map(({ name }) => name).join(", ")}. Run this again as root on Debian or Ubuntu.`,
    );
    process.exit(1);
  }
  run("apt-get", ["update", "-qq"]);
  withoutStarting(() => {
    // A database of its own comes with the server, unless this says otherwise.
    if (missing.some(({ name }) => name === "postgresql") && !existsSync(CLUSTER_SETTINGS)) {
      install("postgresql-common");
      writeFileSync(CLUSTER_SETTINGS, "create_main_cluster = false\n");
    }
    install(...missing.map(({ name }) => name));
  });
  const services = missing.flatMap((one) => one.services);
  // Where there is no systemd there is nothing to forbid.
  spawnSync("systemctl", ["disable", "--quiet", ...services], { stdio: "ignore" });
}
console.log("PostgreSQL, Patroni and etcd are there.");

function hasPostgres() {
  const place = "/usr/lib/postgresql";
  return existsSync(place) && readdirSync(place).some((version) => existsSync(`${place}/${version}/bin/postgres`));
}

function withoutStarting(work) {
  const isOurs = !existsSync(POLICY);
  if (isOurs) writeFileSync(POLICY, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  // Also when a step ends the process.
  process.once("exit", () => isOurs && rmSync(POLICY, { force: true }));
  work();
}

function install(...packages) {
  run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...packages]);
}

function run(command, args) {
  console.log(`${command} ${args.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const { status, error } = spawnSync(command, args, { stdio: "inherit", env });
  if (error) console.error(`Cannot run ${command} (${error.code}).`);
  if (status !== 0) process.exit(status ?? 1);
}
