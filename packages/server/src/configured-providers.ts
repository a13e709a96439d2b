/** The key providers a server is started with, held against what its database needs; spec/envelope.md § Key providers. */

import { existsSync } from "node:fs";
import { resolve } from "node:path";

import type { GuardOptions } from "./envelope/guarded-key-provider.js";
import type { KeyProvider } from "./envelope/key-provider.js";
import { ACTIVE_PROVIDER_SETTING, KeyProviders } from "./envelope/key-providers.js";
import { openKeyProvider } from "./envelope/open-key-provider.js";
import type { Logger } from "./logger.js";
import { StartupError } from "./startup-error.js";
import type { Database } from "./storage/database.js";
import type { MasterRef } from "./storage/store-key.js";

const LOCAL = "local:";
/** Stores that a refusal names. */
const NAMED_STORES = 5;

export interface ProviderOptions {
  /** URIs, or providers that the caller has made. None: the local keyring. */
  wanted: readonly (string | KeyProvider)[];
  /** The file that `local:` without a path means. */
  keyringFile: string;
  /** Other servers use the database: which provider wraps new keys is kept there from the first start on. */
  agree?: boolean;
  guard?: GuardOptions;
  logger: Logger;
}

/**
 * Opens them. A keyring that is not there is made only when the database needs no provider that is not there: what it holds
 * could never be opened with a new one.
 *
 * @throws {StartupError} when the database needs another provider, or a package or credential is missing.
 * @throws {KeyringError} when a keyring is there and cannot be used.
 */
export async function openConfiguredProviders(
  database: Pick<Database, "directory" | "keys">,
  { wanted, keyringFile, agree = false, guard, logger }: ProviderOptions,
): Promise<KeyProviders> {
  const counts = await database.keys.countWraps();
  const needs = [...new Set(counts.map(({ provider }) => provider))];
  const needed = new Set(needs);
  const agreed = agree ? await database.directory.getSetting(ACTIVE_PROVIDER_SETTING) : null;
  // Another server's, perhaps before it has wrapped anything: a keyring of one's own would be of no use beside it.
  if (agreed !== null) needed.add(agreed);
  const all = (wanted.length === 0 ? [LOCAL] : wanted).map((one) =>
    typeof one === "string" && one.startsWith(LOCAL) ? LOCAL + resolve(one.slice(LOCAL.length) || keyringFile) : one,
  );
  const opened = new Map<number, KeyProvider>();
  const open = async (index: number, create: boolean) => {
    const one = all[index];
    if (one === undefined || (!create && isMissingKeyring(one))) return;
    const provider = typeof one === "string" ? await openKeyProvider(one, { environment: process.env, create }) : one;
    opened.set(index, provider);
  };
  try {
    for (const index of all.keys()) await open(index, false);
    const isMet = [...opened.values()].filter((provider) => needed.delete(provider.id)).length > 0;
    const missing = [...all.keys()].filter((index) => !opened.has(index));
    if (isMet && missing.length === 0) await refuseStrays(counts, needed, database);
    refuseUnmet(
      [...needed],
      missing.map((index) => all[index]),
      opened,
    );
    for (const index of missing) await open(index, true);
    const ordered = [...all.keys()].map((index) => opened.get(index)).filter((provider) => provider !== undefined);
    const providers = new KeyProviders(ordered, database.directory, guard);
    await providers.settle(needs);
    await refuseInactive(providers);
    await tellDamaged(ordered, logger);
    await tellOutdated(providers, logger);
    return providers;
  } catch (error) {
    await Promise.allSettled([...opened.values()].map((provider) => provider.close()));
    throw error;
  }
}

function isMissingKeyring(one: string | KeyProvider): boolean {
  return typeof one === "string" && one.startsWith(LOCAL) && !existsSync(one.slice(LOCAL.length));
}

/**
 * Of a database most of which is served: which stores need another provider. A damaged row may name one that never was.
 * @throws {StartupError}
 */
async function refuseStrays(
  counts: readonly MasterRef[],
  unmet: ReadonlySet<string>,
  { keys }: Pick<Database, "keys">,
): Promise<void> {
  const [stray] = counts.filter(({ provider }) => unmet.has(provider));
  if (stray === undefined) return;
  const stores = await keys.storesUnder(stray, NAMED_STORES + 1);
  const names = stores.slice(0, NAMED_STORES).map(({ project, store }) => `${project}/${store}`);
  throw new StartupError(
    `Keys of ${names.join(", ")}${stores.length > NAMED_STORES ? " and others" : ""} name the key provider ` +
      `${stray.provider}, with which the server is not configured: add it with --key-provider. If there never was one, they ` +
      "were damaged in the database: restore it from a backup.",
  );
}

/** `unmet`: ids that the database needs; `missing`: keyrings that are not there. @throws {StartupError} */
function refuseUnmet(
  unmet: readonly string[],
  missing: readonly (string | KeyProvider | undefined)[],
  opened: ReadonlyMap<number, KeyProvider>,
): void {
  if (unmet.length === 0) return;
  const needs = unmet.join(", ");
  const [file] = missing;
  if (typeof file === "string") {
    throw new StartupError(
      `The keyring is missing, and without it nothing in this database can be opened (it needs ${needs}). ` +
        `Restore the file ${file.slice(LOCAL.length)}, or name the keyring with --keyring.`,
    );
  }
  const ids = [...opened.values()].map(({ id }) => id);
  throw new StartupError(
    ids.length === 1 && ids[0]?.startsWith(LOCAL) === true && unmet.every((id) => id.startsWith(LOCAL))
      ? `This is another keyring: it is ${ids[0]}, and the database needs ${needs}. Name the right one with --keyring.`
      : `The database needs the key provider ${needs}, and the server is configured with ${ids.join(", ")}: add the ` +
          "missing one with --key-provider.",
  );
}

/** @throws {StartupError} when new keys are to be wrapped by a provider that is not configured. */
async function refuseInactive(providers: KeyProviders): Promise<void> {
  const id = await providers.activeId();
  if (providers.get(id) !== undefined) return;
  throw new StartupError(
    `New keys of this database are wrapped by the key provider ${id}, which is not configured: add it with --key-provider, or, ` +
      "to leave it, start with both and run `tacenda-server keys migrate`.",
  );
}

/** Of keyrings that are older than another copy; of the others keeps in mind how far they are. Rows are not asked: one may be damaged. */
async function tellOutdated(providers: KeyProviders, logger: Logger): Promise<void> {
  for (const provider of providers.all().filter(({ kind }) => kind === "local")) {
    await providers.noteVersion(provider, await provider.currentVersion());
    const fault = await providers.outdated(provider);
    if (fault !== null) logger.error({ provider: provider.id }, fault);
  }
}

/** Of keyrings only, for they are at hand. */
async function tellDamaged(providers: readonly KeyProvider[], logger: Logger): Promise<void> {
  for (const { id, masterKeys } of providers) {
    if (!id.startsWith(LOCAL)) continue;
    for (const { version, state } of (await masterKeys?.versions()) ?? []) {
      if (state !== "damaged") continue;
      logger.error(
        { provider: id, masterVersion: version },
        "a master key is damaged: what is wrapped under it cannot be opened until the keyring is restored from its backup",
      );
    }
  }
}
