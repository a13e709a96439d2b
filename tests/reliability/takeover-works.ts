/** The kinds of work that servers do in the background, and where in each of them its owner is held up. */

import type { Edit } from "../seeded-server.ts";
import type { ServerProcess } from "../server-process.ts";
import { STORE, adminOf, fill, mastersInUse, settled, storeOf } from "./key-world.ts";
import type { TwoServers } from "./two-servers.ts";

/** What a trial is about. */
export interface World extends Pick<TwoServers, "place"> {
  secret: string;
  /** The number that a query gives. */
  count: (query: string) => Promise<number>;
}

export interface Work {
  name: string;
  /** Texts of the build, each there once, before which the owner is held up. */
  places: Readonly<Record<string, string>>;
  /** Makes what there is to do, through the server that is to be held up. It may get no answer. */
  begin: (world: World, owner: ServerProcess) => Promise<unknown>;
  isDone: (world: World, other: ServerProcess) => Promise<boolean>;
  /** What else happens before the owner goes on. */
  meanwhile?: (world: World, other: ServerProcess) => Promise<unknown>;
  /** Whether something is as it must not be for a moment, asked again and again from when the owner goes on. */
  hasHarm?: (world: World, other: ServerProcess) => Promise<boolean>;
  /** What is wrong in the end. */
  faults: (world: World, other: ServerProcess) => Promise<string[]>;
}

const RECORDS = { stores: 0, records: 40, versions: 2, bytes: 20_000 };

/** Flags of every server: two providers to move between, and data keys that a schedule rotates. */
export function flagsIn(folder: string): string[] {
  const providers = ["first", "second"].flatMap((name) => ["--key-provider", `local:${folder}/${name}.json`]);
  return [...providers, "--data-key-rotation", "1d"];
}

async function providers({ url }: ServerProcess): Promise<readonly [string, string]> {
  const [first, second] = (await adminOf(url).keys.status()).providers;
  return [first?.id ?? "", second?.id ?? ""];
}

async function isSettled(server: ServerProcess, provider: string): Promise<boolean> {
  const used = mastersInUse(await adminOf(server.url).keys.status());
  return used.length === 1 && used[0]?.provider === provider;
}

const dataKeys = async (server: ServerProcess) =>
  (await adminOf(server.url).keys.ofStore(STORE)).keys.flatMap((key) => (key.purpose === "data" ? [key.version] : []));

const expect = (isRight: boolean, fault: string) => (isRight ? [] : [fault]);

export const WORKS: readonly Work[] = [
  {
    name: "dropping expired records",
    places: {
      "heads are made and not kept": "if (judged.changes.length > 0) await maintenance.changeExpiring(judged.changes);",
      "in the transaction": "if (await endEarlier(transaction, change)) {",
    },
    async begin({ secret }, owner) {
      await adminOf(owner.url).stores.create("expiring");
      const store = storeOf(owner.url, secret, "expiring");
      await store.setValue("prepared", "value");
      const expiresAt = new Date(Date.now() + 5_000);
      const keys = Array.from({ length: RECORDS.records }, (_, index) => `expiring-${index}`);
      await Promise.all(keys.map((key) => store.setValue(key, "x".repeat(RECORDS.bytes), { expiresAt })));
    },
    isDone: async ({ count }) => (await count("select count(*) from record_versions where expires_at > 0")) === 0,
    async faults({ count }) {
      const heads = "select count(*) from record_versions where store = 'expiring' and length(body) < 200";
      return expect((await count(heads)) === RECORDS.records, "not every expired record is a head");
    },
  },
  {
    name: "purging a destroyed store",
    places: {
      "a transaction has begun": "const found = await this.#nextDestroyed(transaction);",
      "in the transaction": "budget.rows -= await deleteRecords(",
    },
    async begin({ secret }, owner) {
      const admin = adminOf(owner.url);
      await admin.stores.create("doomed");
      const store = storeOf(owner.url, secret, "doomed");
      for (let version = 1; version <= RECORDS.versions; version++) {
        const keys = Array.from({ length: RECORDS.records }, (_, index) => `doomed-${index}`);
        await Promise.all(keys.map((key) => store.setValue(key, "x".repeat(RECORDS.bytes))));
      }
      await admin.stores.delete("doomed");
    },
    isDone: async ({ count }) =>
      (await count("select count(*) from record_versions where store = 'doomed'")) +
        (await count("select count(*) from records where store = 'doomed'")) ===
      0,
    faults: () => Promise.resolve([]),
  },
  {
    name: "wrapping store keys anew",
    places: {
      "wraps are made and not kept": "const replaced = await keys.replaceWraps(changes, lease);",
      "in the transaction": "return Number(numUpdatedRows);",
    },
    begin: async (_, owner) => await adminOf(owner.url, { timeout: 3_000 }).keys.migrate((await providers(owner))[1]),
    isDone: async (_, other) => await isSettled(other, (await providers(other))[1]),
    async meanwhile(_, other) {
      const { keys } = adminOf(other.url);
      await keys.migrate((await providers(other))[0]);
      await settled(adminOf(other.url));
    },
    async hasHarm({ count }, other) {
      const [first] = await providers(other);
      return (await count(`select count(*) from store_keys where provider != '${first}'`)) > 0;
    },
    faults: async (_, other) =>
      expect(await isSettled(other, (await providers(other))[0]), "keys are left where they were"),
  },
  {
    name: "encrypting records anew",
    places: {
      "bodies are made and not kept": "const replaced = await maintenance.replaceBodies(",
      "in the transaction": "count += Number(numUpdatedRows);",
      "how far it has come is not kept": "progress = { ...progress, ...done, ...next };",
      "data keys are to be deleted": "await deleteUnused(services, progress);",
    },
    begin: (_, owner) => adminOf(owner.url, { timeout: 3_000 }).keys.rotateData(STORE, { reencrypt: true }),
    isDone: async (_, other) =>
      (await adminOf(other.url).keys.status()).reencryptions.length === 0 && (await dataKeys(other)).length === 1,
    meanwhile: (_, other) => adminOf(other.url).keys.rotateData(STORE),
    faults: async (_, other) =>
      expect((await dataKeys(other)).join() === "2,3", "the data keys are not those there were"),
  },
  {
    name: "rotating data keys by schedule",
    places: {
      "a key is due": "for (const ref of due) if (await addDataKey(",
      "a key is made and not kept": 'if (await keys.addDataKey(ref, key2) === "added") return key2.version;',
    },
    begin: ({ count }) => count(`update store_keys set created_at = 1 where store = '${STORE}' returning 1`),
    isDone: async (_, other) => (await dataKeys(other)).length > 1,
    faults: async (_, other) => expect((await dataKeys(other)).join() === "1,2", "a data key was made twice"),
  },
];

export const prepare = (url: string, secret: string) => fill(url, secret, { ...RECORDS, stores: 3 });

const NAME = "TACENDA_TEST_HOLD_AT";
const SIGNAL = "TACENDA_TEST_HOLD_BY";

/** What a server is told to hold itself up by, the first time it comes past a place. */
export function holdAt(place: string, signal: NodeJS.Signals): Record<string, string> {
  return { [NAME]: place, [SIGNAL]: signal };
}

/** Makes a build one that can be held up before these texts. */
export function holdable(places: readonly string[]): Edit[] {
  return places.map((text) => ({
    find: text,
    replace:
      `if (process.env.${NAME} === ${JSON.stringify(text)} && globalThis.wasHeld === undefined) {\n` +
      `globalThis.wasHeld = true; process.kill(process.pid, process.env.${SIGNAL}); }\n${text}`,
  }));
}
