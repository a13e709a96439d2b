/** A database as a person names it in one word: a data directory, or `postgres://…`; docs/postgresql.md § Moving from SQLite. */

import { existsSync, realpathSync } from "node:fs";
import { resolve } from "node:path";

import type { DatabasePlace } from "./database-place.js";
import { postgresPlace } from "./postgres-place.js";
import { sqlitePlace } from "./sqlite-place.js";
import { InvalidOptionError } from "./startup-error.js";
import { withApplicationName } from "./storage/postgres-url.js";

export interface NamedPlace {
  place: DatabasePlace;
  /** Absolute; null when it is not in a directory. */
  directory: string | null;
}

/**
 * `named`: what the text is called in errors, which never quote it: a URL holds a password. `program`: what connections to it
 * call themselves. @throws {InvalidOptionError}
 */
export function placeNamed(text: string, named: string, program: string): NamedPlace {
  if (/^postgres(?:ql)?:/i.test(text)) {
    return { place: postgresPlace(withApplicationName(text, program), undefined, named), directory: null };
  }
  if (text === "" || /^[a-z][a-z0-9+.-]*:\/\//i.test(text)) {
    throw new InvalidOptionError(`${named} must be a data directory, or a URL that begins with postgres://.`);
  }
  const path = resolve(text);
  const directory = existsSync(path) ? realpathSync(path) : path;
  return { place: sqlitePlace(directory), directory };
}
