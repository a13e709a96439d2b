/**
 * Boots a Debian in a container of its own and runs the server there as the service of deploy/: `npm run check:systemd`, as root on
 * Debian, a minute or two. So systemd itself applies every restriction of the unit, and whatever the server needs and is denied fails.
 */
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { check, needRoot, run } from "./trial.mjs";

const root = join(import.meta.dirname, "..");
const TOKEN = "a-root-token-of-thirty-two-characters-and-more";
const PORT = 14_201;
const LIMIT_MILLISECONDS = 120_000;
/** How commands are run, and the first of them. */
const [, COMMANDS] = /```sh\n(tacenda\(\) \{[^]*?)```/.exec(readFileSync(join(root, "docs/deploying.md"), "utf8"));

/** Runs in the container, after the service was started. */
const PROBE = `
exec > /result 2>&1
ask() { node -e "fetch('http://127.0.0.1:${PORT}' + process.argv[1], JSON.parse(process.argv[2] ?? '{}')).then(({ status }) => console.log(process.argv[1], status), () => process.exit(1))" "$@"; }
for attempt in $(seq 30); do ask /readyz && break; sleep 1; done
ask /v1/projects/default/stores '{"method":"POST","headers":{"authorization":"Bearer ${TOKEN}","content-type":"application/json"},"body":"{\\"id\\":\\"probe\\"}"}'
grep -E 'NoNewPrivs|Seccomp:|CapEff|Uid' /proc/$(systemctl show --property=MainPID --value tacenda-server)/status
stat -c '%n %a' /var/lib/private/tacenda /var/lib/private/tacenda/keyring.json
${COMMANDS}
tacenda reset-root-token
stat -c '%n %a' /var/lib/private/tacenda/root-token /var/lib/private/tacenda-backups/monday/records.jsonl
stat -c '%U' /var/lib/private/tacenda/* | sort | uniq -c
systemctl stop tacenda-server
tacenda verify
systemctl start tacenda-server
for attempt in $(seq 30); do ask /livez && break; sleep 1; done
systemctl stop tacenda-server
systemctl show --property=Result tacenda-server
journalctl --unit=tacenda-server --no-pager --output=cat
systemctl --no-block poweroff
`;

needRoot({ "systemd-nspawn": "systemd-container", debootstrap: "debootstrap" });
const folder = mkdtempSync(join(tmpdir(), "tacenda-systemd-"));
const rootfs = join(folder, "rootfs");
try {
  run("debootstrap", ["--variant=minbase", "--include=systemd,systemd-sysv,dbus", "bookworm", rootfs]);
  install();
  const boot = ["--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe", `--directory=${rootfs}`];
  spawnSync("systemd-nspawn", boot, { stdio: "ignore", timeout: LIMIT_MILLISECONDS });
  judge();
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** As docs/deploying.md § systemd says, with the packages of this repository. */
function install() {
  const at = (path) => join(rootfs, path);
  cpSync(process.execPath, at("usr/bin/node"));
  run("npm", ["run", "--silent", "pack"]);
  const packs = readdirSync(join(root, "packs")).map((name) => join(root, "packs", name));
  run("npm", ["install", "--prefix", at("opt/tacenda"), "--omit=dev", "--ignore-scripts", ...packs]);
  cpSync(join(root, "deploy/tacenda-server.service"), at("etc/systemd/system/tacenda-server.service"));
  mkdirSync(at("etc/tacenda"));
  writeFileSync(at("etc/tacenda/server.env"), `TACENDA_PORT=${PORT}\n`);
  writeFileSync(at("etc/tacenda/root-token"), `${TOKEN}\n`, { mode: 0o600 });
  mkdirSync(at("etc/systemd/system/tacenda-server.service.d"));
  const credential =
    "LoadCredential=root-token:/etc/tacenda/root-token\nEnvironment=TACENDA_ROOT_TOKEN_FILE=%d/root-token\n";
  writeFileSync(at("etc/systemd/system/tacenda-server.service.d/override.conf"), `[Service]\n${credential}`);
  writeFileSync(at("probe.sh"), PROBE);
  const probe =
    "[Unit]\nWants=tacenda-server.service\nAfter=tacenda-server.service\n[Service]\nType=oneshot\nExecStart=/bin/sh /probe.sh\n";
  writeFileSync(at("etc/systemd/system/probe.service"), probe);
  mkdirSync(at("etc/systemd/system/multi-user.target.wants"), { recursive: true });
  symlinkSync("../probe.service", at("etc/systemd/system/multi-user.target.wants/probe.service"));
}

function judge() {
  const file = join(rootfs, "result");
  check(existsSync(file), "the system boots and comes to its probe");
  const result = readFileSync(file, "utf8");
  console.log(result);
  check(result.includes("/readyz 200"), "the service starts and is ready");
  check(result.includes("/v1/projects/default/stores 201"), "it takes its root token from a credential, and writes");
  check(/^Uid:\t(?!0\t)/m.test(result), "it is not root");
  check(
    /CapEff:\t0+$/m.test(result) && /NoNewPrivs:\t1/.test(result) && /Seccomp:\t2/.test(result),
    "it has no rights to lose",
  );
  check(/tacenda 700\n.*keyring\.json 600/.test(result), "what it keeps is its own");
  check(
    result.includes("Backed up 1 store, ") &&
      result.includes("Checked the backup in /var/lib/tacenda-backups/monday: 1 store, "),
    "commands back up and verify",
  );
  check(/root-token 600\n.*records\.jsonl 600/.test(result), "what commands keep is its own");
  check(
    result.includes("Checked the database in /var/lib/tacenda: 1 store, ") && result.includes("/livez 200"),
    "commands run while it does not, and it starts after them",
  );
  check(result.includes("Result=success") && result.includes('"stopped"'), "it stops in order");
}
