/** A server whose key provider fails and comes back: what its clients, its administrator and its probes see meanwhile. */

import { setTimeout as sleep } from "node:timers/promises";

import { TacendaError, generateSecret, type Store } from "@tacenda/sdk";

import { SERVER_BIN, spawnServer, type ServerProcess } from "../server-process.ts";
import { freshPlace, type DatabaseName } from "./databases.ts";
import { ROOT_TOKEN, STORE, adminOf, storeOf } from "./key-world.ts";

/** How long the cache of keys lasts, and the time of grace after it, in seconds. */
const TTL = 1;
const GRACE = 6;
const FLAGS = ["--key-cache-ttl", `${TTL}s`, "--key-cache-grace", `${GRACE}s`];
/** Milliseconds within which a call fails or a probe answers, whatever the provider does. */
const CALL_LIMIT = 12_000;
/** Milliseconds within which a read answers that needs no provider. */
const READ_LIMIT = 2_000;
/** Milliseconds after the provider is back within which all is well. */
const RECOVERY_LIMIT = 8_000;

export interface Provider {
  uri: string;
  env: Readonly<Record<string, string>>;
  begin: () => Promise<void> | void;
  end: () => Promise<void> | void;
  /** The provider itself is well, and has other keys than before. */
  isOther?: boolean;
}

interface Trial {
  faults: string[];
  /** The longest that each kind of call took, in milliseconds. */
  longest: Record<string, number>;
}

/** Gives what went wrong, and how long things took. */
export async function tryFailure(provider: Provider, database: DatabaseName, bin = SERVER_BIN): Promise<Trial> {
  const trial: Trial = { faults: [], longest: {} };
  const secret = generateSecret();
  const places = { sleeping: await freshPlace(database), serving: await freshPlace(database) };
  const start = (name: keyof typeof places) =>
    spawnServer({
      bin,
      ...places[name],
      rootToken: ROOT_TOKEN,
      env: { ...places[name].env, ...provider.env },
      flags: ["--key-provider", provider.uri, ...FLAGS],
    });
  const open = ({ url }: ServerProcess) => storeOf(url, secret, STORE, { maxAttempts: 1, timeout: 20_000 });
  const prepare = async (server: ServerProcess) => {
    await adminOf(server.url).stores.create(STORE);
    await open(server).setValue("key", "value");
  };
  const sleeping = await start("sleeping");
  await prepare(sleeping);
  await sleeping.end("SIGTERM");
  const server = await start("serving");
  await prepare(server);
  const store = open(server);

  await provider.begin();
  const begun = performance.now();
  await sleep(TTL * 1_000 + 100);
  await Promise.all([
    readOn(trial, store, begun + (GRACE - 1.5) * 1_000),
    refuses(trial, "a write", () => store.setValue("refused", "value")),
    ...(provider.isOther ? [] : [refuses(trial, "a new store", () => create(server, "new"))]),
    tellsTheTruth(trial, server, provider.isOther ?? false),
  ]);
  const awake = await within(trial, "a start", 30_000, () => start("sleeping"));
  await sleep(Math.max(0, begun + (TTL + GRACE) * 1_000 + 200 - performance.now()));
  await refuses(trial, "a read after the time of grace", () => store.getValue("key"));
  if (awake) await refuses(trial, "a read of a server that was started meanwhile", () => open(awake).getValue("key"));

  await provider.end();
  for (const one of awake ? [server, awake] : [server]) await recovers(trial, one, open(one));
  if ((await store.getValue("refused")) !== null) trial.faults.push("a refused write was written");
  return trial;
}

async function create({ url }: ServerProcess, id: string): Promise<void> {
  await adminOf(url, { maxAttempts: 1, timeout: 20_000 }).stores.create(id);
}

/** Reads until `end`, of the process's clock. */
async function readOn(trial: Trial, store: Store, end: number): Promise<void> {
  while (performance.now() < end) {
    const value = await within(trial, "a read within the time of grace", READ_LIMIT, () => store.getValue("key"));
    if (value !== "value") trial.faults.push(`a read within the time of grace gave ${value}`);
    await sleep(100);
  }
}

async function refuses({ faults, longest }: Trial, what: string, call: () => Promise<unknown>): Promise<void> {
  const started = performance.now();
  try {
    await call();
    faults.push(`${what} succeeded`);
  } catch (error) {
    if (!TacendaError.is(error, "key_provider_unavailable")) faults.push(`${what}: ${String(error)}`);
  }
  note(longest, what, started);
  if (performance.now() - started > CALL_LIMIT) faults.push(`${what} took too long to fail`);
}

async function within<T>(trial: Trial, what: string, limit: number, call: () => Promise<T>): Promise<T | undefined> {
  const started = performance.now();
  try {
    return await call();
  } catch (error) {
    trial.faults.push(`${what}: ${String(error)}`);
    return undefined;
  } finally {
    note(trial.longest, what, started);
    if (performance.now() - started > limit) trial.faults.push(`${what} took too long`);
  }
}

/** That a provider has other keys than before shows in no call on the provider alone. */
async function tellsTheTruth(trial: Trial, { url }: ServerProcess, isOther: boolean): Promise<void> {
  const probe = async (path: string) => (await fetch(url + path, { signal: AbortSignal.timeout(CALL_LIMIT) })).status;
  const ready = await within(trial, "/readyz", CALL_LIMIT, () => probe("/readyz"));
  const live = await within(trial, "/livez", READ_LIMIT, () => probe("/livez"));
  if (ready !== (isOther ? 200 : 503)) trial.faults.push(`/readyz is ${ready}`);
  if (live !== 200) trial.faults.push(`/livez is ${live}`);
  const admin = adminOf(url, { maxAttempts: 1, timeout: 20_000 });
  const status = await within(trial, "keys status", CALL_LIMIT, () => admin.keys.status());
  const { health = "untold", message = "" } = status?.providers[0] ?? {};
  if (health !== (isOther ? "ok" : "unavailable")) trial.faults.push(`keys status says ${health}`);
  if (!isOther && message === "") trial.faults.push("keys status says nothing of the failure");
}

async function recovers(trial: Trial, { url }: ServerProcess, store: Store): Promise<void> {
  const started = performance.now();
  for (;;) {
    try {
      await store.setValue("later", "value");
      const { status } = await fetch(`${url}/readyz`);
      if (status !== 200) throw new Error(`/readyz is ${status}`);
      if ((await store.getValue("key")) !== "value") trial.faults.push("the value is another one after all");
      note(trial.longest, "the recovery", started);
      return;
    } catch (error) {
      if (performance.now() - started > RECOVERY_LIMIT) {
        trial.faults.push(`it does not recover: ${String(error)}`);
        return;
      }
    }
    await sleep(100);
  }
}

function note(longest: Trial["longest"], what: string, started: number): void {
  longest[what] = Math.round(Math.max(longest[what] ?? 0, performance.now() - started));
}
