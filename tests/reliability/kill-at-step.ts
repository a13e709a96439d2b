/** Kills a server at one step of a key operation, starts the next, and looks whether all is there and comes to its end. */

import { cp } from "node:fs/promises";
import { join } from "node:path";

import { generateSecret, TacendaError } from "@tacenda/sdk";
import type { KeyStatus, TacendaAdmin } from "@tacenda/sdk/admin";

import { freshFolder, runCommand, spawnServer, type ServerProcess } from "../server-process.ts";
import { Ledger } from "./ledger.ts";
import { killAt, type KillStep, type Operation } from "./kill-steps.ts";
import { ROOT_TOKEN, STORE, adminOf, fill, mastersInUse, misread, settled, storeOf, type Row } from "./key-world.ts";

/** Enough for two steps of rewrapping, and for several of re-encrypting. */
const CONTENTS = { stores: 40, records: 30, versions: 3, bytes: 30_000 };

/** Data directories at rest, to be copied: fresh; with master key 2 current; and with master key 1 retired. */
export interface Templates {
  secret: string;
  /** What a client reads of them. A few of the stores: each costs a client a derivation. */
  rows: Row[];
  /** Every version of every record, in bytes. */
  ledger: Ledger;
  folders: Record<"fresh" | "rotated" | "retired", string>;
}

const STATES: Readonly<Record<Operation, keyof Templates["folders"]>> = {
  ...{ rotate: "fresh", migrate: "fresh", rotateData: "fresh", reencrypt: "fresh" },
  ...{ retire: "rotated", destroy: "retired", reinstate: "retired" },
};

/** The data directory in a folder, and the two keyrings beside it. */
const placesIn = (folder: string) => {
  const keyrings = ["first.json", "second.json"].flatMap((name) => ["--key-provider", `local:${join(folder, name)}`]);
  return { dataDir: join(folder, "data"), flags: keyrings };
};

const start = (folder: string, options: { bin?: string; env?: Record<string, string> } = {}) =>
  spawnServer({ ...placesIn(folder), rootToken: ROOT_TOKEN, ...options });

export async function makeTemplates(): Promise<Templates> {
  const secret = generateSecret();
  const [fresh, rotated, retired] = [await freshFolder(), await freshFolder(), await freshFolder()];
  const server = await start(fresh);
  const ledger = new Ledger();
  const rows = await fill(server.url, secret, CONTENTS, ledger.fetch);
  await server.end("SIGTERM");
  await cp(fresh, rotated, { recursive: true });
  const second = await start(rotated);
  await adminOf(second.url).keys.rotate();
  await settled(adminOf(second.url));
  await second.end("SIGTERM");
  await cp(rotated, retired, { recursive: true });
  const third = await start(retired);
  await adminOf(third.url).keys.retire({ version: 1 });
  await third.end("SIGTERM");
  const read = rows.filter(([store], index) => store === STORE || index % 20 === 0);
  return { secret, rows: read, ledger, folders: { fresh, rotated, retired } };
}

async function operate(operation: Operation, admin: TacendaAdmin): Promise<unknown> {
  const { keys } = admin;
  const [first, second] = (await keys.status()).providers.map(({ id }) => id);
  const old = { provider: first ?? "", version: 1 };
  switch (operation) {
    case "rotate":
      return await keys.rotate();
    case "migrate":
      return await keys.migrate(second ?? "");
    case "retire":
      return await keys.retire(old);
    case "reinstate":
      return await keys.reinstate(old);
    case "destroy":
      return await keys.destroy(old);
    case "rotateData":
      return await keys.rotateData(STORE);
    case "reencrypt":
      return await keys.rotateData(STORE, { reencrypt: true });
  }
}

/** Gives what went wrong. */
export async function killAtStep(killable: string, step: KillStep, templates: Templates): Promise<string[]> {
  const folder = await freshFolder();
  await cp(templates.folders[STATES[step.operation]], folder, { recursive: true });
  const doomed = await start(folder, { bin: killable, env: killAt(step) });
  await operate(step.operation, adminOf(doomed.url, { maxAttempts: 1 })).catch((error: unknown) => {
    if (!TacendaError.is(error, "server_unreachable")) throw error;
  });
  const signal = await Promise.race([doomed.ended, later(20_000)]);
  if (signal !== "SIGKILL") return ["the server did not come past this step"];

  const server = await start(folder);
  const faults = await inspect(server, step, templates);
  await server.end("SIGTERM");
  const { dataDir, flags } = placesIn(folder);
  const { code, output } = await runCommand(["verify", "--data-dir", dataDir, ...flags]);
  return code === 0 ? faults : [...faults, `verify ends with ${code}: ${output}`];
}

async function inspect({ url }: ServerProcess, step: KillStep, templates: Templates): Promise<string[]> {
  const { secret, rows, ledger } = templates;
  const faults = [...(await ledger.audit(url, ROOT_TOKEN)), ...(await misread(url, secret, rows))];
  const store = storeOf(url, secret);
  const admin = adminOf(url);
  await store.setValue("written at once", "value");
  faults.push(...unfinished(step.operation, await settled(admin)));
  const [wanted, found] = [step.operation === "rotateData" ? 3 : 2, (await admin.keys.ofStore(STORE)).keys.length];
  // What is not committed yet has not happened, and both are right.
  if (found !== 2 && found !== wanted) faults.push(`the store has ${found} keys`);

  // Whatever came of it, it can be asked for again, and then it has happened. What is told to be retired can be destroyed.
  const isRetired = masterOne(await admin.keys.status()) === "retired";
  if (step.operation === "retire" && isRetired) await operate("destroy", admin);
  else await operate(step.operation, admin);
  faults.push(...unhappened(step.operation, await settled(admin)));
  if (step.operation === "reencrypt" && (await admin.keys.ofStore(STORE)).keys.length !== 2) {
    faults.push("an earlier data key is left");
  }
  await store.setValue("written later", "value");
  await admin.stores.create("made-later");
  const own: Row[] = ["written at once", "written later"].map((key) => [STORE, key, "value"]);
  return [...faults, ...(await ledger.audit(url, ROOT_TOKEN)), ...(await misread(url, secret, own))];
}

function unfinished(operation: Operation, status: KeyStatus): string[] {
  const used = mastersInUse(status).length;
  return used === 1 ? [] : [`${used} master keys are in use after ${operation}`];
}

function unhappened(operation: Operation, status: KeyStatus): string[] {
  const [, second] = status.providers;
  const state = masterOne(status);
  const expected = { retire: /retired|destroyed/, destroy: /destroyed/, reinstate: /enabled/ };
  const faults = unfinished(operation, status);
  if (operation === "migrate" && second?.active !== true) faults.push("the other provider is not active");
  if (operation in expected && !expected[operation as keyof typeof expected].test(state)) {
    faults.push(`the master key is ${state}`);
  }
  return faults;
}

/** State of the first master key. */
function masterOne({ providers }: KeyStatus): string {
  return providers[0]?.versions.find(({ version }) => version === 1)?.state ?? "unknown";
}

async function later(milliseconds: number): Promise<null> {
  return await new Promise((resolve) => setTimeout(() => resolve(null), milliseconds).unref());
}
