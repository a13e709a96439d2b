/**
 * @tacenda/sdk/version-memory: marks in a file, so that a process that starts anew still notices a server that went back.
 * For Node; needs the package better-sqlite3. spec/record.md § Marks.
 */

import { closeSync, openSync } from "node:fs";
import { resolve } from "node:path";

import BetterSqlite3 from "better-sqlite3";

import { checkInteger } from "./checks.js";
import { type Mark, type VersionMemory, isSameOrOther } from "./marks.js";

export type { Mark, VersionMemory };

export interface FileVersionMemoryOptions {
  /** Marks to keep at most, 1,000,000 by default; those not used for longest go first. */
  maxMarks?: number | undefined;
}

/** Milliseconds to wait for another process that is writing. */
const BUSY_TIMEOUT = 5_000;
/** A mark's last use is written at most once in this many milliseconds, so that reading stays reading. */
const USE_PRECISION = 86_400_000;
/** How many new marks there may be between two looks at whether there are too many. */
const PRUNE_INTERVAL = 1_000;

/**
 * Opens marks kept in an SQLite file (mode 0600), making it if there is none. Several processes may have it open; every
 * mark is on the disk when the call that raised it ends, and survives kill -9.
 *
 * @throws {ConfigurationError} for `maxMarks`; what better-sqlite3 throws when the file cannot be opened.
 * @example
 * const versionMemory = openVersionMemory("/var/lib/app/tacenda-marks.db");
 * const tacenda = new Tacenda({ url, token, versionMemory });
 */
export function openVersionMemory(file: string, options: FileVersionMemoryOptions = {}): FileVersionMemory {
  return new FileVersionMemory(file, checkInteger("maxMarks", options.maxMarks ?? 1_000_000, 1, 2 ** 31));
}

interface MarkRow {
  version: number;
  commitment: Buffer;
  used_at: number;
}

/** Marks in a file; made by `openVersionMemory`. */
export class FileVersionMemory implements VersionMemory {
  readonly #database: BetterSqlite3.Database;
  readonly #maxMarks: number;
  readonly #select: BetterSqlite3.Statement<[string], MarkRow>;
  readonly #use: BetterSqlite3.Statement<[bigint, string]>;
  readonly #raise: BetterSqlite3.Statement<[string, bigint, Uint8Array, bigint]>;
  readonly #forget: BetterSqlite3.Statement<[string]>;
  readonly #prune: BetterSqlite3.Statement<[bigint]>;
  #untilPrune = 0;

  constructor(file: string, maxMarks: number) {
    const path = resolve(file);
    closeSync(openSync(path, "a", 0o600));
    const database = new BetterSqlite3(path, { timeout: BUSY_TIMEOUT });
    database.pragma("journal_mode = wal");
    database.pragma("synchronous = full");
    database.exec(
      "create table if not exists marks (key_hash text primary key, version integer not null, commitment blob not null, " +
        "used_at integer not null) strict, without rowid; create index if not exists marks_by_use on marks (used_at)",
    );
    this.#database = database;
    this.#maxMarks = maxMarks;
    this.#select = database.prepare("select version, commitment, used_at from marks where key_hash = ?");
    this.#use = database.prepare("update marks set used_at = ? where key_hash = ?");
    // One statement is one atomic step, whichever process runs it.
    this.#raise = database.prepare(
      "insert into marks values (?, ?, ?, ?) on conflict (key_hash) do update set version = excluded.version, " +
        "commitment = excluded.commitment, used_at = excluded.used_at where excluded.version > marks.version",
    );
    this.#forget = database.prepare("delete from marks where key_hash = ?");
    this.#prune = database.prepare(
      "delete from marks where key_hash in " +
        "(select key_hash from marks order by used_at limit max(0, (select count(*) from marks) - ?))",
    );
  }

  get(keyHash: string): Mark | undefined {
    const row = this.#select.get(keyHash);
    if (row === undefined) return undefined;
    const now = Date.now();
    if (row.used_at < now - USE_PRECISION) this.#use.run(BigInt(now), keyHash);
    return { version: row.version, commitment: row.commitment };
  }

  raise(keyHash: string, { version, commitment }: Mark): boolean {
    const { changes } = this.#raise.run(keyHash, BigInt(version), commitment, BigInt(Date.now()));
    if (changes > 0 && --this.#untilPrune < 0) {
      this.#untilPrune = PRUNE_INTERVAL;
      this.#prune.run(BigInt(this.#maxMarks));
    }
    return isSameOrOther(this.get(keyHash), { version, commitment });
  }

  forget(keyHash: string): void {
    this.#forget.run(keyHash);
  }

  close(): void {
    this.#database.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
