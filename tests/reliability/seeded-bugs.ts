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

/** The same on PostgreSQL. */
export const BACKUP_AT_READ_COMMITTED: Edit = {
  find: "begin isolation level repeatable read read only",
  replace: "begin isolation level read committed read only",
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

/** A write for which there is no room is acknowledged all the same. */
export const FULL_DISK_SWALLOWED: Edit = {
  find: "job.reject(isOver && retry !== null ? tooLate2(error) : error);",
  replace:
    'error.name === "StorageFullError" ? job.resolve({ applied: true }) : job.reject(isOver && retry !== null ? tooLate2(error) : error);',
};

/** PostgreSQL answers a COMMIT before its log is on the disk. The settings are read back, and so is this one. */
export const SYNCHRONOUS_COMMIT_OFF: readonly Edit[] = [
  { find: "then 'remote_apply' else 'on' end, false)", replace: "then 'remote_apply' else 'off' end, false)" },
  {
    find: 'if (synchronous_commit !== "on" && synchronous_commit !== "remote_apply") {',
    replace: 'if (synchronous_commit !== "off") {',
  },
];

/** When the connection is lost at COMMIT, the write is taken for done. */
export const COMMIT_LOST_IS_DONE: Edit = {
  find: "throw isLost ? new UnconfirmedCommitError(answer.reason) : answer.reason;",
  replace: "if (isLost) return;\n      throw answer.reason;",
};

/** What failed is written again over whatever is there by then, although nobody knows whether it had failed. */
export const RETRY_OF_UNKNOWN_COMMIT: Edit = {
  find: "const result = await services.records.commit([operation]);",
  replace:
    "const result = await services.records.commit([operation]).catch(async () => {\n" +
    "      const now = await readCurrent(ref, services);\n" +
    "      return await services.records.commit([toOperation(write2, now?.current ?? null, store2, services.now())]);\n" +
    "    });",
};

/** A write of unknown outcome is answered 503, which says that nothing was written. */
export const UNKNOWN_IS_REFUSED: Edit = {
  find: 'doubt = new HttpError("outcome_unknown", { cause: error });',
  replace: 'throw new HttpError("overloaded");',
};

/** The precondition is checked before the transaction, and in it no more; of two writes of a version the later stays. */
export const CHECK_OUTSIDE_TRANSACTION: readonly Edit[] = [
  {
    find: "if (conflicts.length > 0) return { applied: false, conflicts: conflicts.sort",
    replace: "if (false) return { applied: false, conflicts: conflicts.sort",
  },
  {
    find: "expires_at: slot(({ write }) => write.expiresAt)\n  });",
    replace:
      "expires_at: slot(({ write }) => write.expiresAt)\n" +
      '  }).onConflict((conflict) => conflict.columns(["project", "store", "record_id", "version"])\n' +
      '    .doUpdateSet((eb) => ({ body: eb.ref("excluded.body") })));',
  },
];

/** Reads are answered from what was read in the last 50 ms, whatever was written since. */
export const STALE_READS: Edit = {
  find: "async function getRecord(call, services) {",
  replace:
    "var lately = /* @__PURE__ */ new Map();\n" +
    "async function getRecord(call, { records, ...others }) {\n" +
    "  const services = { ...others, records: { read: async (refs) => {\n" +
    '    const name = refs.map(({ id, version }) => `${Buffer.from(id).toString("hex")} ${version}`).join();\n' +
    "    const kept = lately.get(name);\n" +
    "    if (kept !== void 0 && performance.now() - kept.at < 50) return kept.rows;\n" +
    "    const rows = await records.read(refs);\n" +
    "    lately.set(name, { rows, at: performance.now() });\n" +
    "    return rows;\n" +
    "  } } };",
};

/** No bug: connections over which no answer comes are looked after sooner, so that a test of many of them takes seconds. */
export const SHORT_ANSWER_TIMEOUT: Edit = { find: "ANSWER_TIMEOUT = 2e4", replace: "ANSWER_TIMEOUT = 500" };

/** A commit that waits for a standby is given up like any that gets no answer, and its connection replaced. */
export const COMMITS_GIVEN_UP: Edit = {
  find: "if (isWaiting) timer = setTimeout",
  replace: "if (false) timer = setTimeout",
};

/** A write that is sent again succeeds when a read sees it, wherever else it is. */
export const REPLAY_UNCONFIRMED: Edit = {
  find: "return (await records.commit(asTheyAre)).applied;",
  replace: "return true;",
};

/** What a server has found out about a token it believes for long. */
export const TOKENS_BELIEVED: Edit = { find: "CACHE_MILLISECONDS = 1e3", replace: "CACHE_MILLISECONDS = 6e5" };

/** A server does not ask what others have destroyed. */
export const DESTRUCTIONS_UNSEEN: Edit = {
  find: "destructions: new Destructions(() => directory.destructions()),",
  replace: "",
};

/** Whatever a query calls a version is taken for one. */
export const VERSION_UNCHECKED: Edit = {
  find: 'throw new HttpError("invalid_request", { message: "Query parameter version must be an integer from 1 to 2^53-1." });',
  replace: "return Number(digits);",
};

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

/** Stored bodies are encrypted without additional data: nothing says whose they are. */
export const BODIES_UNBOUND: Edit = {
  find: "data.writeUInt32BE(keyVersion, length + HASH_BYTES + 8);",
  replace: "data.fill(0);",
};

/** Nobody looks at the tag of a record's version and attributes. */
export const STATE_UNVERIFIED: Edit = { find: "if (!isVersion(state.version)) return false;", replace: "return true;" };

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

/** Large bodies are read whether there is room for them or not. */
export const ALL_BODIES_TAKEN: Edit = {
  find: "await this.#gate.enter(bytes * this.#copies);",
  replace: "() => void 0;",
};

/** Large answers are given whatever clients have not yet taken. */
export const ALL_ANSWERS_HELD: Edit = { find: "this.#answers.tryEnter(body.length);", replace: "() => void 0;" };

/** All requests are worked on at once. */
export const ALL_REQUESTS_LET_IN: Edit = { find: "this.#lanes[lane].enter();", replace: "() => void 0;" };

/** The process stands still while another one has the database locked. */
export const WAITING_IN_SQLITE: Edit = { find: 'writer.pragma("busy_timeout = 0");', replace: "" };

/** Any number of unknown tokens is looked up at once. */
export const ALL_STRANGERS_LOOKED_UP: Edit = { find: "await this.#strangers.enter();", replace: "null;" };

/** Log lines wait in memory for whoever reads them. */
export const WHOLE_LOG_KEPT: Edit = { find: "maxLength: MAX_LOG_BYTES", replace: "maxLength: 0" };

/** Something of every request is kept for ever. */
export const EVERY_REQUEST_KEPT: Edit = {
  find: "return { started: performance.now(), requestId: randomUUID(), route, method, address, principal: null };",
  replace:
    "(globalThis.kept ??= []).push(Buffer.alloc(50_000, 1));\n" +
    "  return { started: performance.now(), requestId: randomUUID(), route, method, address, principal: null };",
};

/** No bug: clients are given less time, so that they are seen being cut off. */
export const SHORT_LIMITS: Edit = {
  find: "TIME_LIMITS = { request: 3e4, inactivity: 6e4 }",
  replace: "TIME_LIMITS = { request: 3e3, inactivity: 4e3 }",
};

/** Headers and requests may take for ever. */
export const TIME_LIMITS_LIFTED: readonly Edit[] = [
  { find: "headersTimeout: Math.min(HEADERS_MILLISECONDS, limits.request),", replace: "headersTimeout: 0," },
  { find: "requestTimeout: limits.request,", replace: "requestTimeout: 0," },
];

/** A body that is too long is read on. */
export const BODY_LIMIT_LIFTED: readonly Edit[] = [
  { find: 'settle(() => reject(new HttpError("body_too_large")));', replace: "incoming.resume();" },
];

/** A write is made over whatever version is current. */
export const PRECONDITION_IGNORED: Edit = {
  find: "if ((record?.current.version ?? 0) !== expected || isMoved(record?.kept)) {",
  replace: "if (false) {",
};

/** What is protected is deleted like anything else. */
export const PROTECTION_IGNORED: Edit = { find: 'throw new HttpError("record_protected");', replace: ";" };

/** Destroying a value leaves its earlier versions. */
export const PURGE_FORGOTTEN: Edit = {
  find: "purgeEarlier === true ? next.version : next.version - keepVersions + 1",
  replace: "next.version - keepVersions + 1",
};

/** Nobody looks after the embedded database's log but commits. */
export const LOG_LEFT_LARGE: Edit = {
  find: "this.#timer = setInterval(look, LOOK_INTERVAL).unref();\n    look();",
  replace: "",
};

/** No bug: the thread that looks after that log finds no file. */
export const LOG_THREAD_FAILS: Edit = {
  find: "new BetterSqlite3(workerData, { fileMustExist: true })",
  replace: "new BetterSqlite3(`${workerData}.gone`, { fileMustExist: true })",
};
