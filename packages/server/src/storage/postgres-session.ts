/** One connection to PostgreSQL: found among the hosts, under TLS, with every setting that durability rests on made and read back. */

import { readFileSync } from "node:fs";
import { isIP, Socket } from "node:net";
import type { ConnectionOptions } from "node:tls";

import pg from "pg";

import { InvalidOptionError } from "../startup-error.js";
import { sqlState, withoutValues } from "./postgres-errors.js";
import { describePostgres, type PostgresHost, type PostgresUrl } from "./postgres-url.js";
import { StorageBusyError, StorageError } from "./record-store.js";

/** `traffic` bounds how long anything may take; `long` is for migrations and snapshots, which take as long as they take. */
type SessionKind = "traffic" | "long";

/** Milliseconds. */
const STATEMENT_TIMEOUT = 15_000;
const LOCK_TIMEOUT = 5_000;
/** A server that hangs in the middle of a transaction holds up others no longer than this. */
const IDLE_IN_TRANSACTION_TIMEOUT = 8_000;
/** After this a connection over which no answer comes is given up, for instance when the network swallows everything. */
const ANSWER_TIMEOUT = 20_000;
/** How long a COMMIT is waited for that nobody bounds but us: 24 days, the longest that a timer can. */
const NO_TIMEOUT = 2 ** 31 - 1;
/** How long a server may take to hear that a connection is ended. */
const END_TIMEOUT = 1_000;
const KEEP_ALIVE = 10_000;

/** PostgreSQL 13, the oldest that its makers still kept up when this was written. */
const LEAST_VERSION = 130_000;

const INT8 = 20;
/** Class of the codes of notices that warn of nothing. */
const SUCCESS = "00";

/** As libpq: for whoever keeps passwords out of URLs. */
const fromEnvironment: { PGPASSWORD?: string } = process.env;

export interface Session {
  client: pg.Client;
  /** Where it is connected to. */
  host: PostgresHost;
  /** The connection is gone, or in a state in which it must not be used again. */
  isBroken: boolean;
  /** Notices of the server that something is not as it should be. */
  warnings: number;
  /**
   * Sends COMMIT, and waits for as long as the server is seen to wait for a standby: given up, it would wait all the same, and
   * with one new connection after the other the server would have none left for anybody. It rejects when the connection is lost,
   * or (of traffic) there is no answer and no such reason.
   */
  commit(): Promise<pg.QueryResult>;
  /** Ends the connection; at once, with what is under way on it, or with a word to the server. */
  end(how: "at once" | "politely"): Promise<void>;
}

export interface SessionOptions {
  url: PostgresUrl;
  kind: SessionKind;
  /** Whether it must be able to write. */
  writes: boolean;
}

interface Checks {
  version: number;
  standby: boolean;
  read_only: string;
  synchronous_commit: string;
  fsync: string;
  full_page_writes: string;
  client_min_messages: string;
}

/**
 * Connects to the first host that will do: `preferred` is tried before the others, which are in the order of the URL.
 * @throws {StorageError} saying of each host what is wrong with it.
 */
export async function openSession(options: SessionOptions, preferred?: PostgresHost): Promise<Session> {
  const { url } = options;
  const faults: { place: string; what: string; isPassing: boolean; cause: Error }[] = [];
  for (const host of url.hosts.toSorted((a, b) => Number(b === preferred) - Number(a === preferred))) {
    for (const ssl of tlsOptions(url, host)) {
      try {
        return await openSessionTo(host, ssl, options);
      } catch (error) {
        if (error instanceof StorageError) throw error;
        // Of a server that has no TLS the next try, if there is one, is without.
        if (isWithoutTls(error) && ssl !== false && isNear(url, host)) continue;
        faults.push({
          place: `${host.host}:${host.port}`,
          what: describe(error),
          isPassing: isPassing(error),
          cause: withoutValues(error),
        });
        break;
      }
    }
  }
  const list = faults.map(({ place, what }) => `${place} ${what}`).join("; ");
  const message = `There is no connection to ${describePostgres(url)}: ${list}.`;
  const [first] = faults;
  throw faults.some(({ isPassing }) => isPassing)
    ? new StorageBusyError(message, { cause: first?.cause })
    : new StorageError(message, { cause: first?.cause });
}

async function openSessionTo(
  host: PostgresHost,
  ssl: ConnectionOptions | false,
  options: SessionOptions,
): Promise<Session> {
  const session = newSession(host, ssl, options);
  try {
    await session.client.connect();
    const checks = await configure(session.client, options);
    if (options.writes && (checks.standby || checks.read_only === "on")) throw new ReadOnlyServerError();
    refuseUnsafe(checks);
    return session;
  } catch (error) {
    void session.end("politely");
    throw error;
  }
}

function newSession(host: PostgresHost, ssl: ConnectionOptions | false, options: SessionOptions): Session {
  const { url, kind } = options;
  const socket = new Socket();
  const client = new pg.Client({
    host: host.host,
    port: host.port,
    user: url.user,
    password: url.password ?? fromEnvironment.PGPASSWORD ?? "",
    database: url.database,
    ssl,
    stream: () => socket,
    application_name: url.applicationName,
    connectionTimeoutMillis: url.connectTimeout,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE,
    // Statements are sent without waiting for the answers of those before, which come in the same order.
    pipeline: true,
    ...(kind === "traffic" && { query_timeout: ANSWER_TIMEOUT }),
    types: { getTypeParser },
  });
  const session: Session = {
    client,
    host,
    isBroken: false,
    warnings: 0,
    async commit() {
      if (kind === "long") return await client.query("commit");
      let timer: NodeJS.Timeout | null = setTimeout(() => void look(), ANSWER_TIMEOUT);
      const look = async () => {
        const isWaiting = await isWaitingForStandby(client, newSession(host, ssl, options));
        // The answer may have come meanwhile.
        if (timer === null) return;
        if (isWaiting) timer = setTimeout(() => void look(), ANSWER_TIMEOUT);
        else socket.destroy();
      };
      return await client.query(withTimeout("commit", NO_TIMEOUT)).finally(() => {
        clearTimeout(timer ?? undefined);
        timer = null;
      });
    },
    async end(how) {
      if (how === "at once") socket.destroy();
      // It may be frozen, or not to be reached any more.
      const timer = setTimeout(() => socket.destroy(), END_TIMEOUT);
      await client.end().catch(() => undefined);
      clearTimeout(timer);
    },
  };
  const lose = () => (session.isBroken = true);
  client.on("error", lose).on("end", lose);
  // By the code: the severity is in the server's language.
  client.on("notice", ({ code }) => {
    if (code?.startsWith(SUCCESS) !== true) session.warnings++;
  });
  return session;
}

/** A query that has another time limit than its connection's others; the types do not know of it. */
function withTimeout(text: string, milliseconds: number): pg.QueryConfig & { query_timeout: number } {
  return { text, query_timeout: milliseconds };
}

/** Asks the same server, over another connection, what this one's COMMIT waits for. */
async function isWaitingForStandby(client: pg.Client, other: Session): Promise<boolean> {
  const id = (client as { processID?: number | null }).processID ?? 0;
  try {
    await other.client.connect();
    const { rows } = await other.client.query(
      "select from pg_stat_activity where pid = $1 and datname = current_database() and wait_event = 'SyncRep'",
      [id],
    );
    return rows.length === 1;
  } catch {
    return false;
  } finally {
    void other.end("politely");
  }
}

/** As JavaScript numbers, up to 2^53−1: see schema.ts. */
function getTypeParser(oid: number): (text: string) => unknown {
  return oid === INT8 ? Number : defaultParser(oid);
}

const defaultParser = pg.types.getTypeParser as (oid: number) => (text: string) => unknown;

/** One round trip. The settings are made here and not in the start-up packet, which poolers in between refuse. */
async function configure(client: pg.Client, { url, kind }: SessionOptions): Promise<Checks> {
  const limit = (milliseconds: number) => (kind === "traffic" ? milliseconds : 0);
  const text = `
    set statement_timeout = ${limit(STATEMENT_TIMEOUT)};
    set lock_timeout = ${limit(LOCK_TIMEOUT)};
    set idle_in_transaction_session_timeout = ${limit(IDLE_IN_TRANSACTION_TIMEOUT)};
    set default_transaction_isolation = 'read committed';
    -- Compiling a plan takes longer than any query here.
    set jit = off;
    -- That a wait for standbys was cut short is said in a warning, and in no other way.
    set client_min_messages = warning;
    -- What waits for less than this machine's disk would lose acknowledged writes. What waits for standbys too may stay.
    select set_config('synchronous_commit', case current_setting('synchronous_commit')
      when 'remote_apply' then 'remote_apply' else 'on' end, false);
    select current_setting('server_version_num')::int as version, pg_is_in_recovery() as standby,
      current_setting('transaction_read_only') as read_only,
      current_setting('synchronous_commit') as synchronous_commit, current_setting('fsync') as fsync,
      current_setting('full_page_writes') as full_page_writes,
      current_setting('client_min_messages') as client_min_messages`;
  const results = (await client.query(withTimeout(text, url.connectTimeout))) as unknown as { rows: Checks[] }[];
  const checks = results.at(-1)?.rows[0];
  if (checks === undefined) throw new Error("The server did not answer.");
  return checks;
}

/** @throws {StorageError} */
function refuseUnsafe({ version, synchronous_commit, fsync, full_page_writes, client_min_messages }: Checks): void {
  if (version < LEAST_VERSION) {
    throw new StorageError("The database server is older than PostgreSQL 13. Bring it up to date, or use another one.");
  }
  for (const [setting, value] of Object.entries({ fsync, full_page_writes })) {
    if (value === "on") continue;
    throw new StorageError(
      `The database server runs with ${setting} = ${value}, and loses acknowledged writes on power loss. Set it to on.`,
    );
  }
  if (synchronous_commit !== "on" && synchronous_commit !== "remote_apply") {
    throw new StorageError("The database does not accept synchronous_commit = on, without which it is not safe.");
  }
  if (client_min_messages !== "warning") {
    throw new StorageError("The database does not accept client_min_messages = warning, without which it is not safe.");
  }
}

/** Reads the files that the URL names, as every connection will: they may be renewed meanwhile. @throws {InvalidOptionError} */
export function checkFiles(url: PostgresUrl): void {
  for (const host of url.hosts) tlsOptions(url, host);
}

/** What to try with this host, one after the other. @throws {InvalidOptionError} when a file cannot be read. */
function tlsOptions(url: PostgresUrl, { host }: PostgresHost): (ConnectionOptions | false)[] {
  if (host.startsWith("/")) return [false];
  const mode = url.sslMode ?? (isNear(url, { host }) ? "prefer" : "verify-full");
  if (mode === "disable") return [false];
  const file = url.sslRootCert;
  const files = {
    ...(file !== undefined && file !== "system" && { ca: fileText("sslrootcert", file) }),
    ...(url.sslCert !== undefined && { cert: fileText("sslcert", url.sslCert) }),
    ...(url.sslKey !== undefined && { key: fileText("sslkey", url.sslKey) }),
    // Of a socket that is there already, Node would not know whose certificate to expect when it is an address.
    host,
    ...(isIP(host) === 0 && { servername: host }),
  };
  if (mode === "verify-full") return [files];
  // As with libpq, whoever names an authority has it checked.
  if (mode === "verify-ca" || (mode === "require" && file !== undefined)) {
    return [{ ...files, checkServerIdentity: () => undefined }];
  }
  const unverified = { ...files, rejectUnauthorized: false };
  return mode === "require" ? [unverified] : [unverified, false];
}

/** Whether it is this very machine, or whatever TLS there is was asked for. */
function isNear({ sslMode }: PostgresUrl, { host }: Pick<PostgresHost, "host">): boolean {
  return sslMode === "prefer" || (sslMode === undefined && /^(?:localhost|127\.[0-9.]+|::1|\/.*)$/.test(host));
}

function fileText(name: string, file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    throw new InvalidOptionError(`The file of ${name} in the URL of the database cannot be read.`);
  }
}

class ReadOnlyServerError extends Error {
  override name = "ReadOnlyServerError";
}

function isWithoutTls(error: unknown): boolean {
  return error instanceof Error && error.message === "The server does not support SSL connections";
}

/** Whether the same may work a little later. */
function isPassing(error: unknown): boolean {
  if (error instanceof ReadOnlyServerError) return true;
  const state = sqlState(error);
  if (state !== undefined) return /^(?:08|53|57)/.test(state);
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return !isWithoutTls(error) && !/CERT|SSL|TLS|SIGNATURE|SELF_SIGNED|ENOTFOUND/.test(code);
}

/** What is wrong with a host, in words, without anything that was given. */
function describe(error: unknown): string {
  if (error instanceof ReadOnlyServerError) return "takes no writes (a standby?)";
  if (isWithoutTls(error)) return "has no TLS (sslmode=disable would do without)";
  const state = sqlState(error);
  if (state?.startsWith("28") === true) return `refuses the user or the password (${state})`;
  if (state === "3D000") return `has no such database (${state})`;
  if (state === "42501") return `does not let this user connect (${state})`;
  if (state !== undefined) return `refuses the connection (${state})`;
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
  if (code !== undefined) return `cannot be reached (${code})`;
  return error instanceof Error && error.message.includes("timeout")
    ? "does not answer in time"
    : "closes the connection";
}
