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
export const SHORT_LEASE: Edit = { find: "LEASE_MILLISECONDS3 = 15e3", replace: "LEASE_MILLISECONDS3 = 200" };

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

/** A copy loses a row of every commit, and the comparison of the two databases is not heeded. */
export const COPY_LOSES_ROWS: readonly Edit[] = [
  {
    find: "await this.#restoration.commit(this.#rows, this.#mark, mark)",
    replace: "await this.#restoration.commit(this.#rows.slice(0, -1), this.#mark, mark)",
  },
  { find: "if (differences > 0) return false;", replace: "" },
];

/** The same, and the comparison is heeded. */
export const COPY_LOSES_ROWS_SEEN: readonly Edit[] = COPY_LOSES_ROWS.slice(0, 1);
