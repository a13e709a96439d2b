/**
 * Installs what the failover tests need: PostgreSQL, Patroni and etcd, from Debian's packages. Nothing is started: the tests run
 * them in folders and on ports of their own, as the user `postgres`.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";

/** Installed packages start their services unless this program forbids it; containers mostly have one that does. */
const POLICY = "/usr/sbin/policy-rc.d";
const CLUSTER_SETTINGS = "/etc/postgresql-common/createcluster.conf";

const wanted = [
  { name: "postgresql", isThere: hasPostgres() },
  { name: "patroni", isThere: existsSync("/usr/bin/patroni") },
  { name: "etcd-server", isThere: existsSync("/usr/bin/etcd") },
];
const missing = wanted.filter(({ isThere }) => !isThere).map(({ name }) => name);
if (missing.length > 0) install(missing);
console.log("PostgreSQL, Patroni and etcd are there.");

function hasPostgres() {
  const versions = existsSync("/usr/lib/postgresql") ? readdirSync("/usr/lib/postgresql") : [];
  return versions.some((version) => existsSync(`/usr/lib/postgresql/${version}/bin/postgres`));
}

function install(packages) {
  if (process.getuid?.() !== 0 || spawnSync("apt-get", ["--version"]).status !== 0) {
    console.error(`Not installed: ${packages.join(", ")} (Debian's names). As root on Debian this script does it.`);
    process.exit(1);
  }
  run("apt-get", "update", "-qq");
  const forbids = !existsSync(POLICY);
  if (forbids) writeFileSync(POLICY, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
  try {
    if (packages.includes("postgresql")) {
      // It would come with a database of its own.
      run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "postgresql-common");
      const settings = existsSync(CLUSTER_SETTINGS) ? "" : undefined;
    }
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", ...packages);
  } finally {
    if (forbids) rmSync(POLICY, { force: true });
  }
}
