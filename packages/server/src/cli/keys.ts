/** `tacenda-server keys …`: key operations of a running server, asked for by its API; spec/http.md § Keys. */

import { setTimeout as sleep } from "node:timers/promises";

import {
  isId,
  storePath,
  type DestructionReceipt,
  type KeyStatus,
  type MasterKeyRef,
  type StoreKeyStatus,
} from "@tacenda/protocol";
import { Argument, Command, InvalidArgumentError, Option } from "commander";

import { counted } from "../counted.js";
import { InvalidOptionError, StartupError } from "../startup-error.js";
import { openAdminClient, type AdminClient, type AdminFlags } from "./admin-client.js";
import { describeReceipt, describeStatus, describeStore } from "./key-report.js";
import { dataDirOption, integer } from "./options.js";
import { startProgress } from "./progress.js";

const KEYS = "/v1/admin/keys";
/** How often to ask how far the work has come, in milliseconds. */
const POLL_MILLISECONDS = 250;
/** How long the work may stand still for lack of a provider before the command gives up waiting, in milliseconds. */
const PATIENCE_MILLISECONDS = 60_000;
const MAX_U32 = 0xffff_ffff;

interface KeysFlags extends AdminFlags {
  json?: boolean;
  wait?: boolean;
  provider?: string;
}

/** Adds `keys` with its subcommands. */
export function addKeysCommand(program: Command, environment: NodeJS.ProcessEnv): void {
  const keys = program.command("keys").description("key operations of a running server");
  const add = (
    words: string,
    description: string,
    run: (client: AdminClient, flags: KeysFlags & Record<string, unknown>, argument: string) => Promise<void>,
  ) => {
    const [name = "", ...argument] = words.split(" ");
    const command = keys.command(name).description(description);
    // Parsed by commander, which says what is wrong with it.
    for (const word of argument) command.addArgument(new Argument(word).argParser(PARSERS[word] ?? String));
    command
      .addOption(new Option("--url <url>", "where the server is").env("TACENDA_URL").default("http://127.0.0.1:4200"))
      .addOption(dataDirOption("where the server's first start left the file root-token, if it did"))
      .option("--json", "print JSON")
      .action(async (...values: unknown[]) => {
        const flags = command.opts<KeysFlags & Record<string, unknown>>();
        await run(await openAdminClient(flags, environment), flags, values.slice(0, -2).join());
      });
    return command;
  };
  const provider = () => new Option("--provider <id>", "key provider of the version (default: the active one)");
  const noWait = () => new Option("--no-wait", "do not wait until the work is done");

  add("status", "master keys, their providers, and the work on them", async (client, flags) => {
    const status = await client.get<KeyStatus>(KEYS);
    print(flags, status, describeStatus(status));
  });
  add("rotate", "make a new master key and wrap every store key under it", async (client, flags) => {
    const master = await client.post<MasterKeyRef>(`${KEYS}/rotate`, {});
    await settle(client, flags, `Master-key version ${master.masterVersion} of ${master.provider} is current.`);
  }).addOption(noWait());
  add(
    "migrate",
    "wrap every store key by another key provider that the server is configured with",
    async (client, flags) => {
      const before = await client.get<KeyStatus>(KEYS);
      const master = await client.post<MasterKeyRef>(`${KEYS}/migrate`, { to: flags["to"] });
      const status = await settle(client, flags, `The key provider ${master.provider} wraps all new keys.`);
      if (status !== null && flags.json !== true) tellUnused(before, status, master.provider);
    },
  )
    .addOption(noWait())
    .requiredOption("--to <id>", "id of the provider, or enough of its beginning");
  for (const [word, past] of [
    ["retire", "retired: it wraps and unwraps nothing any more"],
    ["reinstate", "reinstated: it unwraps again"],
  ] as const) {
    add(`${word} <version>`, `${word} a master-key version`, async (client, flags, version) => {
      const master = await client.post<MasterKeyRef>(`${KEYS}/${word}`, query(flags, version));
      print(flags, master, `Master-key version ${master.masterVersion} of ${master.provider} is ${past}.\n`);
    }).addOption(provider());
  }
  add("destroy-master <version>", "destroy a retired master-key version for good", async (client, flags, version) => {
    if (flags["yes"] !== true) {
      throw new InvalidOptionError(
        "What was wrapped under it, in any backup, can never be opened again. Say --yes if that is what you want.",
      );
    }
    const receipt = await client.post<DestructionReceipt>(`${KEYS}/destroy`, query(flags, version));
    print(flags, receipt, describeReceipt(receipt));
  })
    .addOption(provider())
    .option("--yes", "yes, for good");
  add("store <project/store>", "the keys of one store", async (client, flags, path) => {
    const status = await client.get<StoreKeyStatus>(`${path}/keys`);
    print(flags, status, describeStore(status));
  });
  add("rotate-data <project/store>", "give a store a new data key for all new writes", async (client, flags, path) => {
    const reencrypt = flags["reencrypt"] === true;
    const status = await client.post<StoreKeyStatus>(`${path}/keys/rotate`, { reencrypt });
    if (reencrypt) await reencrypted(client, flags, path);
    else print(flags, status, describeStore(status));
  })
    .addOption(noWait())
    .option("--reencrypt", "encrypt what the store holds under the new key as well");
  add(
    "reencrypt <project/store>",
    "encrypt all that a store holds under its newest data key",
    async (client, flags, path) => {
      await client.post<StoreKeyStatus>(`${path}/keys/reencrypt`, {});
      await reencrypted(client, flags, path);
    },
  ).addOption(noWait());
}

function query(flags: KeysFlags, version: string) {
  return { version: Number(version), ...(flags.provider !== undefined && { provider: flags.provider }) };
}

/** The path of a store that is named project/store. */
function storeOf(name: string): string {
  const [project = "", store = "", ...more] = name.split("/");
  if (isId(project) && isId(store) && more.length === 0) return `/${storePath(project, store)}`;
  throw new InvalidArgumentError("A store is named as project/store, for instance default/user-tokens.");
}

const PARSERS: Readonly<Record<string, (text: string) => string>> = {
  "<version>": (text) => String(integer(1, MAX_U32)(text)),
  "<project/store>": storeOf,
};

/** Waits until every store key is under the current master key, and prints the state then; null when it does not wait. */
async function settle(client: AdminClient, flags: KeysFlags, done: string): Promise<KeyStatus | null> {
  if (flags.json !== true) process.stdout.write(`${done}\n`);
  const progress = startProgress("wrapping store keys");
  let total = 0;
  let left = -1;
  let movedAt = performance.now();
  try {
    for (;;) {
      const status = await client.get<KeyStatus>(KEYS);
      total = Math.max(total, status.outdatedWraps);
      if (status.outdatedWraps === 0 || flags.wait === false) {
        progress.stop();
        print(flags, status, describeStatus(status));
        return flags.wait === false ? null : status;
      }
      if (status.outdatedWraps !== left) movedAt = performance.now();
      left = status.outdatedWraps;
      progress.update(total - left, total);
      if (performance.now() - movedAt > PATIENCE_MILLISECONDS)
        throw stuck(`${counted(left, "store key")} could not be wrapped anew`, status.failure);
      await sleep(POLL_MILLISECONDS);
    }
  } finally {
    progress.stop();
  }
}

function stuck(what: string, failure: string | null): StartupError {
  return new StartupError(
    `${what} until now: ${failure ?? "see the server's log"} The server goes on trying; \`keys status\` tells.`,
  );
}

async function reencrypted(client: AdminClient, flags: KeysFlags, path: string): Promise<void> {
  const progress = startProgress("re-encrypting");
  let seen = -1;
  let movedAt = performance.now();
  try {
    for (;;) {
      const status = await client.get<StoreKeyStatus>(`${path}/keys`);
      const { reencryption } = status;
      if (reencryption?.endedAt !== null || flags.wait === false) {
        progress.stop();
        print(flags, status, describeStore(status));
        if (reencryption?.damaged === true) throw new StartupError(DAMAGED);
        return;
      }
      if (reencryption.progress !== seen) movedAt = performance.now();
      seen = reencryption.progress;
      progress.update(seen, 1);
      if (performance.now() - movedAt > PATIENCE_MILLISECONDS) {
        throw stuck("The store could not be re-encrypted further", (await client.get<KeyStatus>(KEYS)).failure);
      }
      await sleep(POLL_MILLISECONDS);
    }
  } finally {
    progress.stop();
  }
}

const DAMAGED =
  "Some records of the store do not verify. They stay as they are, and keep their data keys: tacenda-server verify names them.";

/** The final statement about the providers that were needed before. */
function tellUnused(before: KeyStatus, after: KeyStatus, to: string): void {
  for (const { id } of before.providers) {
    if (id === to) continue;
    const left = after.providers.find((one) => one.id === id)?.versions.reduce((sum, { wraps }) => sum + wraps, 0) ?? 0;
    if (left > 0) continue;
    process.stdout.write(
      `Nothing in the database refers to ${id} any more: take it out of the configuration when you like. Backups of wrapped ` +
        `keys made before ${new Date().toISOString()} still need it.\n`,
    );
  }
}

function print({ json }: KeysFlags, value: unknown, text: string): void {
  process.stdout.write(json === true ? `${JSON.stringify(value, null, 2)}\n` : text);
}
