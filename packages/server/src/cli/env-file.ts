/** The TACENDA_* lines that `dev` prints, and the `.env` file that its --write-env keeps; spec/http.md § Starting. */

import { readFile, realpath, rename, stat } from "node:fs/promises";
import { resolve } from "node:path";

import { writePrivateFile } from "../private-file.js";
import { StartupError, codeOf } from "../startup-error.js";

/** What a client needs. */
export interface ClientEnvironment {
  url: string;
  token: string;
  project: string;
  store: string;
  /** Null when the store is older than this run, so that nobody here knows it. */
  secret: string | null;
}

const OWN_LINE = /^\s*(?:export\s+)?TACENDA_(URL|TOKEN|PROJECT|STORE|SECRET)\s*=(.*)$/;
const SECRET_UNKNOWN =
  "# TACENDA_SECRET: the store exists, so keep using the secret printed when it was made; the server does not know it.";

/** The lines of a new `.env`. */
export function formatEnvironment(environment: ClientEnvironment): string {
  return mergeEnvironment("", environment);
}

/**
 * The text of a `.env` that was `text`, with the lines of `environment` in place of its own and all others kept. A secret
 * is never dropped, since this may be its only copy: that of the same store stays, any other one becomes a comment.
 */
export function mergeEnvironment(text: string, environment: ClientEnvironment): string {
  const { url, token, project, store, secret } = environment;
  const lines = text.replace(/\n$/, "").split("\n");
  const found = new Map(lines.map(parseLine).filter((setting) => setting !== null));
  const isSameStore = found.get("STORE") === store && (found.get("PROJECT") ?? project) === project;
  const kept: string[] = [];
  const secrets = secret === null ? [] : [`TACENDA_SECRET=${secret}`];
  for (const line of text === "" ? [] : lines) {
    const [name, value] = parseLine(line) ?? [];
    if (name === undefined && line !== SECRET_UNKNOWN) kept.push(line);
    if (name !== "SECRET" || value === "") continue;
    if (secret === null && isSameStore) secrets.push(line);
    else kept.push(`# Earlier secret, of the store ${found.get("STORE") ?? "(unnamed)"}: ${line.trim()}`);
  }
  const own = [`TACENDA_URL=${url}`, `TACENDA_TOKEN=${token}`, `TACENDA_PROJECT=${project}`, `TACENDA_STORE=${store}`];
  return [...kept, ...own, ...(secrets.length > 0 ? secrets : [SECRET_UNKNOWN]), ""].join("\n");
}

/**
 * Merges `environment` into `file`, mode 0600; at every moment the file is the old one or the new one. `prepare` runs when
 * the new text is on the disk and not in place yet; when it fails, the file stays as it was.
 *
 * @throws {StartupError} when the file cannot be read or written, and what `prepare` throws.
 */
export async function updateEnvFile(
  file: string,
  environment: ClientEnvironment,
  prepare: () => Promise<void>,
): Promise<void> {
  try {
    // A link stays one.
    const target = await realpath(file).catch(() => resolve(file));
    const text = mergeEnvironment(await readIfThere(target), environment);
    await writePrivateFile(target, text, async (temporary) => {
      await prepare();
      await rename(temporary, target);
    });
  } catch (error) {
    const code = codeOf(error);
    if (code === undefined) throw error;
    throw new StartupError(
      `Cannot write ${file} (${code}): --write-env must name a file that this user can write, in a folder that exists.`,
      { cause: error },
    );
  }
}

function parseLine(line: string): [name: string, value: string] | null {
  const [, name, value] = OWN_LINE.exec(line.trimEnd()) ?? [];
  if (name === undefined || value === undefined) return null;
  return [name, value.trim().replace(/^(["'])(.*)\1$/, "$2")];
}

async function readIfThere(file: string): Promise<string> {
  try {
    // Reading a terminal or a pipe would wait for ever.
    if (!(await stat(file)).isFile())
      throw new StartupError(`${file} is not a file: choose another one for --write-env.`);
    return await readFile(file, "utf8");
  } catch (error) {
    if (codeOf(error) === "ENOENT") return "";
    throw error;
  }
}
