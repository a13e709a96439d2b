/** The bugs that this suite must catch, as edits of the built server. */

import type { Edit } from "../seeded-server.ts";

/** SQLite syncs the write-ahead log at checkpoints only. The setting and its reading back are one line. */
export const SYNCHRONOUS_NORMAL: Edit = { find: '["synchronous", "full", 2]', replace: '["synchronous", "normal", 1]' };

/** Writers are told that their write is durable a moment before it is committed. */
export const ACKNOWLEDGE_BEFORE_COMMIT: Edit = {
  find: "committing = true;",
  replace:
    "for (const [index, job] of group.entries()) job.resolve(done[index]);\n" +
    "        await new Promise((resolve) => setTimeout(resolve, 20));\n" +
    "        committing = true;",
};

/** A backup reads one committed state after the other, as it comes to each part. */
export const BACKUP_WITHOUT_SNAPSHOT: Edit = {
  find: 'connection.exec("begin")',
  replace: 'connection.exec("select 1")',
};

/** A retired data key is deleted after the first step of a re-encryption, while the rest is still under it. */
export const DATA_KEY_DELETED_EARLY: readonly Edit[] = [
  { find: "const { next, ...done } = stepped;", replace: "const { next: _, ...done } = stepped, next = null;" },
  { find: 'if (seen !== "clear") return seen;', replace: "" },
];

/** Another key than the store's is wrapped, and the old wrap given up without a look at the new one. */
export const WRONG_KEY_UNVERIFIED: readonly Edit[] = [
  { find: "await target.rewrap(key2, context)", replace: "await target.wrap(new Uint8Array(32).fill(1), context)" },
  { find: "await verify(target, wrap, context, before);", replace: "" },
];

/** A master key is retired without a look at what is wrapped under it. */
export const RETIRED_IN_USE: Edit = { find: 'if (used !== void 0) return "in_use";', replace: "" };

/** No bug: the next server need not wait long for the lease of a killed one, so that kills find it at work again. */
export const SHORT_LEASE: Edit = { find: "LEASE_MILLISECONDS = 15e3", replace: "LEASE_MILLISECONDS = 200" };

/** The keyring is opened for writing, which empties it, and not replaced as a whole. */
export const KEYRING_IN_PLACE: Edit = {
  find: 'await open(temporary, "wx", 384)',
  replace: 'await open(file.endsWith(".json") ? file : temporary, "w", 384)',
};

/** Writes go on with unwrapped keys that cannot be loaded again, as reads do. */
export const WRITES_WITH_OLD_KEYS: Edit = {
  find: 'const mayGoOn = use === "read" && ',
  replace: "const mayGoOn = ",
};

/** Reads go on with them for ever. */
export const GRACE_WITHOUT_END: Edit = { find: "age <= this.#ttl + this.#grace;", replace: "true;" };

/** What a server has found out about a token it believes for long. */
export const TOKENS_BELIEVED: Edit = { find: "CACHE_MILLISECONDS = 1e3", replace: "CACHE_MILLISECONDS = 6e5" };

/** A server does not ask what others have destroyed. */
export const DESTRUCTIONS_UNSEEN: Edit = {
  find: "destructions: new Destructions(() => directory.destructions()),",
  replace: "",
};

/** No bug: what takes servers a minute takes them a second. */
export const SHORT_TIMES: readonly Edit[] = [
  { find: "LEASE_MILLISECONDS = 15e3", replace: "LEASE_MILLISECONDS = 3e3" },
  { find: "RENEW_MILLISECONDS = 5e3", replace: "RENEW_MILLISECONDS = 5e2" },
  { find: "KEY_MILLISECONDS = 6e4", replace: "KEY_MILLISECONDS = 1e3" },
  { find: "EXPIRY_MILLISECONDS = 6e4", replace: "EXPIRY_MILLISECONDS = 1e3" },
  { find: "INTERVAL = 6e4", replace: "INTERVAL = 1e3" },
  { find: "DESTROYED_ROWS_STAY = 1e4", replace: "DESTROYED_ROWS_STAY = 1e3" },
];

/** A server believes for ever that the lease is its own, and its commits do not depend on that. The steps are small ones. */
export const LEASE_NEVER_LOST: readonly Edit[] = [
  { find: "if (await this.#leases.renewLease(this.ref, LEASE_MILLISECONDS)) {", replace: "if (true) {" },
  { find: "if (!await holdsLease(transaction, lease)) return null;", replace: "" },
  { find: "STEP_KEYS = 64", replace: "STEP_KEYS = 2" },
];
