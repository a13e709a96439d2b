/** Reads `postgres://…` as libpq does, as far as a server needs it; docs/postgresql.md § The URL. No message quotes the URL. */

import { InvalidOptionError } from "../startup-error.js";

/** How much of TLS is asked for; the names are libpq's. */
const SSL_MODES = ["disable", "prefer", "require", "verify-ca", "verify-full"] as const;
type SslMode = (typeof SSL_MODES)[number];

export interface PostgresHost {
  /** A name, an address, or the folder of a Unix socket. */
  host: string;
  port: number;
}

export interface PostgresUrl {
  hosts: readonly PostgresHost[];
  database: string;
  user: string;
  password: string | undefined;
  /** Absent: full verification, but of this very machine, where what there is is used. */
  sslMode: SslMode | undefined;
  /** Files. "system" as the first: the authorities that Node trusts. */
  sslRootCert: string | undefined;
  sslCert: string | undefined;
  sslKey: string | undefined;
  /** Milliseconds. */
  connectTimeout: number;
  applicationName: string;
  /** `any`: a snapshot may be read from a standby. Whoever writes needs the primary in any case. */
  targets: "primary" | "any";
}

const PARAMETERS = [
  "host",
  "port",
  "user",
  "password",
  "dbname",
  "sslmode",
  "sslrootcert",
  "sslcert",
  "sslkey",
  "connect_timeout",
  "application_name",
  "target_session_attrs",
] as const;

/**
 * The only @ is the one before the hosts, and a database's name has no @ : / as they are: what of a password was not escaped would
 * else be taken for a host or a database, and both are named in errors. For a password that has one of / ? # @ an @ is left over.
 */
const SHAPE = /^postgres(?:ql)?:\/\/(?:([^:@/?#]*)(?::([^@/?#]*))?@)?([^/?#@]*)(?:\/([^?#@:/]*))?(?:\?([^#@]*))?$/;
const CONNECT_TIMEOUT = 5_000;

/** `named`: what the URL is called in errors. @throws {InvalidOptionError} */
export function parsePostgresUrl(url: string, named = "TACENDA_DATABASE_URL (or --database-url)"): PostgresUrl {
  try {
    return parse(url);
  } catch (error) {
    if (error instanceof UrlFault) throw new InvalidOptionError(`${named} ${error.message}`);
    throw error;
  }
}

/** The same URL for sessions that give themselves this name. */
export function withApplicationName(url: string, name: string): string {
  return `${url}${url.includes("?") ? "&" : "?"}application_name=${encodeURIComponent(name)}`;
}

/** What is wrong with a URL, to follow its name. */
class UrlFault extends Error {}

function parse(url: string): PostgresUrl {
  const match = SHAPE.exec(url);
  if (match === null) {
    throw new UrlFault(
      "must be of the form postgres://user:password@host:5432/database, with every character of user and password that is not " +
        "a letter, a digit or one of - . _ ~ written as %XX.",
    );
  }
  const [, user = "", password, hosts = "", database = "", query = ""] = match;
  const given = parameters(query);
  const name = decode(database) || given.dbname;
  const login = decode(user) || given.user;
  if (!name || !login) throw invalid("it must name a user and a database");
  return {
    hosts: parseHosts(given.host ?? decode(hosts), given.port),
    database: name,
    user: login,
    password: password === undefined ? given.password : decode(password),
    sslMode: oneOf("sslmode", given.sslmode, SSL_MODES),
    sslRootCert: given.sslrootcert,
    sslCert: given.sslcert,
    sslKey: given.sslkey,
    connectTimeout: given.connect_timeout === undefined ? CONNECT_TIMEOUT : seconds(given.connect_timeout),
    applicationName: given.application_name ?? "tacenda-server",
    targets: toTargets(given.target_session_attrs),
  };
}

/** For a sentence: hosts and database, without user and password. */
export function describePostgres({ hosts, database }: Pick<PostgresUrl, "hosts" | "database">): string {
  return `the PostgreSQL database ${database} at ${hosts.map(({ host, port }) => `${host}:${port}`).join(", ")}`;
}

function parameters(query: string): Partial<Record<(typeof PARAMETERS)[number], string>> {
  const given: Partial<Record<(typeof PARAMETERS)[number], string>> = {};
  for (const part of query.split("&")) {
    if (part === "") continue;
    const [name = "", value = ""] = part.split(/=(.*)/s);
    const known = PARAMETERS.find((one) => one === name);
    // The name is of no known parameter, and may be anything.
    if (known === undefined) throw invalid(`its parameters can be ${PARAMETERS.join(", ")}`);
    given[known] = decode(value);
  }
  return given;
}

function parseHosts(text: string, ports: string | undefined): PostgresHost[] {
  const portList = ports?.split(",") ?? [];
  return text.split(",").map((entry, index) => {
    const [, bracketed, plain, port] = /^(?:\[([0-9a-fA-F:.%]+)\]|([^:[\]]*))(?::([0-9]{1,5}))?$/.exec(entry) ?? [];
    const host = bracketed ?? plain;
    if (host === undefined) throw invalid("its hosts must be names or addresses, each with a port or without");
    const number = Number(port ?? portList[index] ?? portList[0] ?? 5432);
    if (!Number.isInteger(number) || number < 1 || number > 65_535) throw invalid("its ports must be from 1 to 65535");
    return { host: host === "" ? "localhost" : host, port: number };
  });
}

function toTargets(given: string | undefined): "primary" | "any" {
  const value = oneOf("target_session_attrs", given, ["any", "read-write", "primary"] as const);
  return value === "any" ? "any" : "primary";
}

function oneOf<T extends string>(name: string, value: string | undefined, all: readonly T[]): T | undefined {
  const found = all.find((one) => one === value);
  if (value !== undefined && found === undefined) throw invalid(`its ${name} must be one of ${all.join(", ")}`);
  return found;
}

function seconds(text: string): number {
  if (/^[0-9]{1,4}$/.test(text) && Number(text) > 0) return Number(text) * 1_000;
  throw invalid("its connect_timeout must be a number of seconds");
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid("a % in it must be followed by two hexadecimal digits");
  }
}

function invalid(what: string): UrlFault {
  return new UrlFault(`is not valid: ${what}.`);
}
