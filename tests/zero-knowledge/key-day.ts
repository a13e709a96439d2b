/** What an administrator does to the keys of a running server: rotates, destroys and moves them, and makes a backup. */

import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { Tacenda } from "@tacenda/sdk";
import type { TacendaAdmin } from "@tacenda/sdk/admin";

import { settled } from "../reliability/key-world.ts";
import { runCommand } from "../server-process.ts";
import type { Canaries } from "./canaries.ts";

/** Keyrings of the day in the data directory, the first one's first. */
const KEYRINGS = ["keyring.json", "second.json"];

/** Master keys in base64url, as the keyrings hold them. */
export interface MasterKeys {
  live: string[];
  destroyed: string;
}

export function keyringFlags(dataDir: string): string[] {
  return KEYRINGS.flatMap((name) => ["--key-provider", `local:${join(dataDir, name)}`]);
}

/** Gives the master keys that there were. @throws {Error} when a call goes otherwise than it should. */
export async function operateKeys(admin: TacendaAdmin, canaries: Canaries, dataDir: string): Promise<MasterKeys> {
  const { keys, stores } = admin;
  const [destroyed = ""] = await keysIn(dataDir, KEYRINGS[0]);
  await keys.rotate();
  await settled(admin);
  await keys.rotateData(canaries.store, { reencrypt: true });
  await settled(admin);
  await keys.ofStore(canaries.store);
  await keys.retire({ version: 1 });
  await keys.reinstate({ version: 1 });
  await keys.retire({ version: 1 });
  await keys.destroy({ version: 1 });
  await keys.migrate((await keys.status()).providers[1]?.id ?? "");
  await settled(admin);
  await keys.rotate();
  const { failure } = await settled(admin);
  if (failure !== null) throw new Error(failure);

  await stores.create("doomed");
  await stores.delete("doomed");
  const live = await Promise.all(KEYRINGS.map((name) => keysIn(dataDir, name)));
  return { live: live.flat(), destroyed };
}

/** Backs up to `target` and verifies what is there. Gives what the commands have said. */
export async function backUp(bin: string, dataDir: string, target: string): Promise<string> {
  const commands = [
    ["backup", target, "--data-dir", dataDir],
    ["verify", "--backup", target, ...keyringFlags(dataDir), "--data-dir", dataDir],
  ];
  let said = "";
  for (const command of commands) {
    const { code, output } = await runCommand(command, { bin });
    if (code !== 0) throw new Error(`${command[0]} ended with ${code}: ${output}`);
    said += output;
  }
  return said;
}

/** Reads a value with a client that has seen nothing yet. */
export async function readAfterwards(url: string, token: string, canaries: Canaries): Promise<void> {
  const { project, store, secret, key, value } = canaries;
  const fresh = new Tacenda({ url, token, project }).getStore(store, { secret });
  if ((await fresh.getValue(key)) !== value)
    throw new Error("The value did not come back after the keys were changed.");
}

async function keysIn(dataDir: string, name = ""): Promise<string[]> {
  const text = await readFile(join(dataDir, name), "utf8");
  return (JSON.parse(text) as { keys: { key?: string }[] }).keys.flatMap(({ key }) => (key === undefined ? [] : [key]));
}
