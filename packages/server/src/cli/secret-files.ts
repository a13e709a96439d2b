/** Variables that hold a secret can come from files instead, as container platforms and systemd hand them over; spec/http.md § Starting. */

import { readFile } from "node:fs/promises";

import { InvalidOptionError, codeOf } from "../startup-error.js";

/** Each can be given as NAME_FILE, the file that its value is in. */
const SECRETS = ["TACENDA_ROOT_TOKEN", "TACENDA_DATABASE_URL"] as const;

/**
 * Sets the variables whose files are named, in place of the names. A line feed at the end of a file is no part of the value.
 * @throws {InvalidOptionError} when a file cannot be read or is empty, or the variable is set as well.
 */
export async function readSecretFiles(environment: NodeJS.ProcessEnv): Promise<void> {
  for (const name of SECRETS) {
    const file = environment[`${name}_FILE`];
    if (file === undefined || file === "") continue;
    if (environment[name] !== undefined) {
      throw new InvalidOptionError(`Set ${name} or ${name}_FILE, not both.`);
    }
    const value = (await contentOf(name, file)).replace(/\r?\n$/, "");
    if (value === "") throw new InvalidOptionError(`The file that ${name}_FILE names is empty.`);
    environment[name] = value;
    // Workers get this environment, and would find both.
    Reflect.deleteProperty(environment, `${name}_FILE`);
  }
}

async function contentOf(name: string, file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new InvalidOptionError(
      `The file that ${name}_FILE names cannot be read (${codeOf(error) ?? "no code"}). Check its path, and that this user can read it.`,
    );
  }
}
