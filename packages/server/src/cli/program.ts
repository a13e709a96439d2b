/** The command line of tacenda-server: its commands, and how it ends when something is wrong; spec/http.md § Starting. */

import { createRequire } from "node:module";

import { isId } from "@tacenda/protocol";
import { Command, CommanderError, InvalidArgumentError } from "commander";

import { BackupError } from "../backup/errors.js";
import { CopyError } from "../copy/errors.js";
import { KeyProviderError } from "../envelope/key-provider.js";
import { KeyringError } from "../envelope/providers/local-keyring.js";
import { InvalidOptionError, StartupError, codeOf } from "../startup-error.js";
import { NewerDatabaseError, OlderDatabaseError } from "../storage/database.js";
import { DataDirectoryLockedError } from "../storage/lock.js";
import { StorageError } from "../storage/record-store.js";
import { backup, type BackupFlags } from "./backup.js";
import { addCopyCommands } from "./copy-commands.js";
import { dev, type DevFlags } from "./dev.js";
import { addKeysCommand } from "./keys.js";
import {
  addServeFlags,
  dataDirOption,
  databaseUrlOption,
  keyProviderOption,
  keyringOption,
  workersOption,
} from "./options.js";
import { resetRootToken, type ResetFlags } from "./reset-root-token.js";
import { restore, type RestoreFlags } from "./restore.js";
import { readSecretFiles } from "./secret-files.js";
import { serve } from "./serve.js";
import { verify, type VerifyFlags } from "./verify.js";
import type { WorkersFlags } from "./workers.js";

/** Bad flags or values. */
const USAGE_EXIT = 2;

/** Errors whose message is for the person at the terminal. */
const EXPLAINED = [
  StartupError,
  BackupError,
  CopyError,
  KeyringError,
  KeyProviderError,
  NewerDatabaseError,
  OlderDatabaseError,
  DataDirectoryLockedError,
];

const ROOT_TOKEN_HELP = `
The root token is made on the first start on a data directory, by serve or by dev, and shown that once: on the terminal,
or in the file root-token in the data directory when there is no terminal. Later starts use the same one and do not show
it. TACENDA_ROOT_TOKEN (32 characters or more) overrides it while it is set. reset-root-token makes another one.

TACENDA_ROOT_TOKEN_FILE and TACENDA_DATABASE_URL_FILE name files that hold these values instead of the environment.`;

/** Runs the command line and resolves with the exit code when the server has stopped, or the command is done. */
export async function runProgram(argv: readonly string[], environment: NodeJS.ProcessEnv): Promise<number> {
  let exitCode = 0;
  try {
    await readSecretFiles(environment);
    await createProgram(environment, (code) => (exitCode = code)).parseAsync(argv);
    return exitCode;
  } catch (error) {
    // Commander has already said what is wrong.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE_EXIT;
    process.stderr.write(`tacenda-server: ${explain(error)}\n`);
    return error instanceof InvalidOptionError ? USAGE_EXIT : 1;
  }
}

function createProgram(environment: NodeJS.ProcessEnv, exitWith: (code: number) => void): Command {
  const rootToken = environment["TACENDA_ROOT_TOKEN"];
  const program = new Command("tacenda-server")
    .description("Stores opaque, client-encrypted records and cannot enumerate them.")
    .version(packageVersion())
    .exitOverride();
  const serveCommand = program
    .command("serve", { isDefault: true })
    .description("run the server (the default)")
    .addHelpText("after", ROOT_TOKEN_HELP)
    // Whatever is no command comes here, for this is the default one.
    .allowExcessArguments()
    .action((flags: WorkersFlags, command: Command) => {
      const [word] = command.args;
      if (word !== undefined) program.error(`error: unknown command '${word}': the commands are ${names(program)}`);
      return serve(flags, rootToken);
    });
  const devCommand = program
    .command("dev")
    .description("run the server with a store, a token and a secret, and print them as .env lines")
    .option("--store <id>", "store to make", storeId, "dev")
    // Not --env-file: Node itself reads that, wherever it stands in a command line.
    .option("--write-env <file>", "write the .env lines to this file instead, keeping its other lines and its secret")
    .action((flags: DevFlags) => dev(flags, rootToken));
  addBackupCommands(program, exitWith);
  addCopyCommands(program, exitWith);
  addKeysCommand(program, environment);
  program
    .command("reset-root-token")
    .description("make a new root token in the place of the old one, while servers run or not")
    .addOption(dataDirOption())
    .addOption(databaseUrlOption())
    .option(
      "--write <file>",
      "write it to this file, mode 0600 (default: show it on the terminal; without one, root-token in the data directory)",
    )
    .action((flags: ResetFlags) => resetRootToken(flags, rootToken));
  addServeFlags(serveCommand, "info").addOption(workersOption());
  addServeFlags(devCommand, "warn");
  program.addHelpText(
    "after",
    () =>
      `\n${serveCommand.helpInformation()}${ROOT_TOKEN_HELP}\n\nThe flags of another command, for instance of dev: tacenda-server dev --help`,
  );
  return program;
}

function addBackupCommands(program: Command, exitWith: (code: number) => void): void {
  program
    .command("backup <directory>")
    .description(
      "back up records and wrapped keys, while a server runs or not; run again to finish what was interrupted",
    )
    .addOption(dataDirOption())
    .addOption(databaseUrlOption())
    .action((directory: string, flags: BackupFlags) => backup(directory, flags));
  program
    .command("restore <directory>")
    .description(
      "put a backup into a new data directory, or an empty database; run again to finish what was interrupted",
    )
    .addOption(dataDirOption())
    .addOption(databaseUrlOption())
    .addOption(keyringOption())
    .addOption(keyProviderOption())
    .option("--keys <file>", "take the wrapped keys from this file, of another backup")
    .action((directory: string, flags: RestoreFlags) => restore(directory, flags));
  program
    .command("verify")
    .description("open every record under the present keys, and name what does not open")
    .addOption(dataDirOption())
    .addOption(databaseUrlOption())
    .addOption(keyringOption())
    .addOption(keyProviderOption())
    .option("--backup <directory>", "open what is in this backup instead")
    .option("--keys <file>", "with --backup: take the wrapped keys from this file, of another backup")
    .action(async (flags: VerifyFlags) => exitWith(await verify(flags)));
}

function names(program: Command): string {
  const all = program.commands.map((command) => command.name());
  return `${all.slice(0, -1).join(", ")} and ${all.at(-1) ?? ""}`;
}

/** From the package's own manifest, wherever the bundler put this file. */
function packageVersion(): string {
  return (createRequire(import.meta.url)("@tacenda/server/package.json") as { version: string }).version;
}

function storeId(text: string): string {
  if (isId(text)) return text;
  throw new InvalidArgumentError("It must match ^[a-z0-9][a-z0-9_-]{0,62}$.");
}

function explain(error: unknown): string {
  if (!(error instanceof Error)) return "it failed.";
  if (EXPLAINED.some((kind) => error instanceof kind)) return error.message;
  const code = codeOf(error) ?? codeOf(error.cause) ?? "no code";
  // Messages of foreign errors may quote what they failed on.
  const what = error instanceof StorageError ? error.message : "It failed.";
  return `${what} (${error.name}, ${code}; --log-level debug shows the stack)`;
}
