/** The flags of `copy` and `reopen`; docs/postgresql.md § Moving from SQLite. */

import { Option, type Command } from "commander";

import { copy, type CopyFlags } from "./copy.js";
import { dataDirOption, databaseUrlOption, keyProviderOption, keyringOption } from "./options.js";
import { reopen, type ReopenFlags } from "./reopen.js";

/** Adds both commands to the program. `exitWith` gets the exit code of `copy`. */
export function addCopyCommands(program: Command, exitWith: (code: number) => void): void {
  program
    .command("copy")
    .description(
      "copy a database that no server uses to another place, compare the two, and open every record; run again to finish what was interrupted",
    )
    .addOption(placeOption("--from", "TACENDA_COPY_FROM"))
    .addOption(placeOption("--to", "TACENDA_COPY_TO"))
    .addOption(
      keyringOption("the master keys (default: keyring.json in the data directory of --from, or else of --to)"),
    )
    .addOption(keyProviderOption())
    .addOption(dataDirOption("where keyring.json is when neither is a data directory"))
    .option(
      "--close-source",
      "before the two are compared, close the source: no server starts on it or writes to it any more",
    )
    .option("--ignore-connections", "copy from PostgreSQL although others are connected, none of which is a server")
    .action(async (flags: CopyFlags) => exitWith(await copy(flags)));
  program
    .command("reopen")
    .description("let servers start again on a database that copy --close-source has closed")
    .addOption(dataDirOption("where the database is"))
    .addOption(databaseUrlOption())
    .action((flags: ReopenFlags) => reopen(flags));
}

/** Its value is never shown: it may hold a password. */
function placeOption(flag: string, variable: string): Option {
  return new Option(
    `${flag} <place>`,
    `a data directory, or postgres://…; better in ${variable}, for a URL holds a password`,
  )
    .env(variable)
    .makeOptionMandatory();
}
