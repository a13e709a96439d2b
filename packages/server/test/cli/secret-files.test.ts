/** Secrets from files: what the variables NAME_FILE do. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { beforeEach, expect, onTestFinished, test } from "vitest";

import { readSecretFiles } from "../../src/cli/secret-files.js";
import { freshFolder } from "../world.js";

const BIN = join(import.meta.dirname, "../../bin/tacenda-server.js");
const TOKEN = "a-root-token-that-only-this-file-has-in-it";

let folder: string;
let file: string;

beforeEach(async () => {
  folder = await freshFolder();
  file = join(folder, "secret");
  await writeFile(file, `${TOKEN}\n`);
});

test("a file's content without its last line feed becomes the variable's value", async () => {
  const environment: NodeJS.ProcessEnv = { TACENDA_ROOT_TOKEN_FILE: file, TACENDA_DATABASE_URL_FILE: "" };
  await readSecretFiles(environment);
  expect(environment.TACENDA_ROOT_TOKEN).toBe(TOKEN);
  expect(environment.TACENDA_DATABASE_URL).toBeUndefined();
});

test("a variable beside its file, a missing and an empty one are refused without showing anything", async () => {
  await writeFile(join(folder, "empty"), "\n");
  for (const [environment, message] of [
    [{ TACENDA_ROOT_TOKEN_FILE: file, TACENDA_ROOT_TOKEN: TOKEN }, "not both"],
    [{ TACENDA_DATABASE_URL_FILE: join(folder, "missing") }, "cannot be read (ENOENT)"],
    [{ TACENDA_DATABASE_URL_FILE: join(folder, "empty") }, "is empty"],
  ] as const) {
    const error: unknown = await readSecretFiles({ ...environment }).catch((thrown: unknown) => thrown);
    expect(String(error)).toContain(message);
    expect(String(error)).not.toContain(TOKEN);
    expect(String(error)).not.toContain(folder);
  }
});

test.runIf(process.platform === "linux")(
  "the server takes its root token so, and its environment shows it to nobody",
  async () => {
    const child = spawn(process.execPath, [BIN, "--port", "0", "--data-dir", join(folder, "data")], {
      env: { PATH: process.env.PATH, TACENDA_ROOT_TOKEN_FILE: file },
      stdio: ["ignore", "pipe", "inherit"],
    });
    onTestFinished(() => void child.kill("SIGKILL"));
    let url = "";
    for await (const line of createInterface(child.stdout)) {
      if (!line.includes('"listening"')) continue;
      ({ url } = JSON.parse(line) as { url: string });
      break;
    }
    const answer = await fetch(`${url}/v1/projects`, { headers: { authorization: `Bearer ${TOKEN}` } });
    expect(answer.status).toBe(200);
    const environ = await readFile(`/proc/${child.pid}/environ`, "utf8");
    expect(environ).toContain("TACENDA_ROOT_TOKEN_FILE=");
    expect(environ).not.toContain(TOKEN);
    child.kill("SIGTERM");
    await once(child, "exit");
  },
);
