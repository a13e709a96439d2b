/** The command line of tacenda-server: its commands, and how it ends when something is wrong. */

import { isId } from "@tacenda/protocol";
import { Command, CommanderError, InvalidArgumentError } from "commander";

import { KeyringError } from "../envelope/local-keyring.js";
import { describeError } from "../logger.js";
import { InvalidOptionError, StartupError } from "../startup-error.js";
import { NewerDatabaseError } from "../storage/database.js";
import { DataDirectoryLockedError } from "../storage/lock.js";
import { dev, type DevFlags } from "./dev.js";
import { addServeFlags, type ServeFlags } from "./options.js";
import { serve } from "./serve.js";

/** Bad flags or values. */
const USAGE_EXIT = 2;

/** Errors whose message is for the person at the terminal. */
const EXPLAINED = [StartupError, KeyringError, NewerDatabaseError, DataDirectoryLockedError];

/** Runs the command line and resolves with the exit code when the server has stopped. */
export async function runProgram(argv: readonly string[], environment: NodeJS.ProcessEnv): Promise<number> {
  try {
    await createProgram(environment["TACENDA_ROOT_TOKEN"]).parseAsync(argv);
    return 0;
  } catch (error) {
    // Commander has already said what is wrong.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE_EXIT;
    process.stderr.write(`tacenda-server: ${explain(error)}\n`);
    return error instanceof InvalidOptionError ? USAGE_EXIT : 1;
  }
}

function createProgram(rootToken: string | undefined): Command {
  const program = new Command("tacenda-server")
    .description("Stores opaque, client-encrypted records and cannot enumerate them.")
    .exitOverride();
  const serveCommand = program
    .command("serve", { isDefault: true })
    .description("run the server (the default)")
    .addHelpText(
      "after",
      "\nTACENDA_ROOT_TOKEN sets the root token (32 characters or more) instead of the generated one.",
    )
    .action((flags: ServeFlags) => serve(flags, rootToken));
  const devCommand = program
    .command("dev")
    .description("run the server and print a store, a token and a secret as .env lines")
    .option("--store <id>", "store to make", storeId, "dev")
    .action((flags: DevFlags) => dev(flags, rootToken));
  addServeFlags(serveCommand, "info");
  addServeFlags(devCommand, "silent");
  return program;
}

function storeId(text: string): string {
  if (isId(text)) return text;
  throw new InvalidArgumentError("It must match ^[a-z0-9][a-z0-9_-]{0,62}$.");
}

function explain(error: unknown): string {
  if (EXPLAINED.some((kind) => error instanceof kind)) return (error as Error).message;
  return `it failed: ${JSON.stringify(describeError(error))}`;
}
