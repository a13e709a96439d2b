/** The flags of tacenda-server and the TACENDA_* variables behind them; a flag wins over a variable, a variable over the default. */

import { Command, InvalidArgumentError, Option } from "commander";

import { DEFAULT_KEY_GRACE, DEFAULT_KEY_TTL } from "../envelope/store-keys.js";
import { DEFAULT_BODY_MEMORY, DEFAULT_MAX_REQUESTS } from "../http/admission.js";
import { parseNetworks } from "../http/client-address.js";
import type { Rate } from "../http/rate-limit.js";
import { DEFAULT_MAX_CONNECTIONS, MASTER_KEY_ROTATION, type ServerOptions } from "../server.js";
import { InvalidOptionError } from "../startup-error.js";
import type { TlsFiles } from "../tls-files.js";

const MEBIBYTE = 1_048_576;
const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** What the flags of `serve` and `dev` come to. */
export interface ServeFlags extends DatabaseFlags {
  databaseConnections?: number;
  host: string;
  port: number;
  tlsCert?: string;
  tlsKey?: string;
  trustedProxies?: string[];
  dataDir: string;
  keyring?: string;
  keyProvider?: string[];
  masterKeyRotation: number | null;
  dataKeyRotation: number | null;
  keyCacheTtl: number;
  keyCacheGrace: number;
  metricsPort?: number;
  corsOrigin?: string;
  maxConnections: number;
  maxRequests: number;
  bodyMemory: number;
  rateLimit: Rate | null;
  logLevel: LogLevel;
}

/** Which data directory. */
export function dataDirOption(description = "where the database and the keyring are"): Option {
  return new Option("--data-dir <directory>", description).env("TACENDA_DATA_DIR").default("./tacenda-data");
}

/** The flags of commands that need the database. */
export interface DatabaseFlags {
  databaseUrl?: string;
}

/** Which database, when it is not in the data directory. Its value is never shown: it holds a password. */
export function databaseUrlOption(): Option {
  return new Option(
    "--database-url <url>",
    "postgres://…: the database, instead of one in the data directory; better in TACENDA_DATABASE_URL, for it holds a password",
  ).env("TACENDA_DATABASE_URL");
}

/** Which keyring. */
export function keyringOption(description = "the master keys (default: keyring.json in the data directory)"): Option {
  return new Option("--keyring <file>", description).env("TACENDA_KEYRING");
}

/** Which key providers. */
export function keyProviderOption(): Option {
  return new Option(
    "--key-provider <uri>",
    "where master keys are; several to move from one to another (default: local:, the keyring)",
  )
    .env("TACENDA_KEY_PROVIDER")
    .argParser(several);
}

/** How many processes. */
export function workersOption(): Option {
  return new Option(
    "--workers <number>",
    "processes that serve the port together, on a PostgreSQL database; limits are per process, connections to the database too",
  )
    .env("TACENDA_WORKERS")
    .default(1)
    .argParser(integer(1, 256));
}

/** Adds the flags that `serve` and `dev` share. */
export function addServeFlags(command: Command, defaultLogLevel: LogLevel): Command {
  return addKeyFlags(command)
    .addOption(new Option("--host <host>", "address to listen on").env("TACENDA_HOST").default("127.0.0.1"))
    .addOption(
      new Option("--port <port>", "port to listen on; 0 for any free one")
        .env("TACENDA_PORT")
        .default(4200)
        .argParser(integer(0, 65_535)),
    )
    .addOption(
      new Option(
        "--tls-cert <file>",
        "serve HTTPS with this certificate, in PEM, and those that lead to its authority behind it",
      ).env("TACENDA_TLS_CERT"),
    )
    .addOption(new Option("--tls-key <file>", "its private key, in PEM, closed to other users").env("TACENDA_TLS_KEY"))
    .addOption(
      new Option(
        "--trusted-proxies <addresses>",
        "proxies whose X-Forwarded-For is believed: addresses or networks, 127.0.0.1,10.0.0.0/8; none unless given",
      )
        .env("TACENDA_TRUSTED_PROXIES")
        .argParser(networks),
    )
    .addOption(dataDirOption())
    .addOption(databaseUrlOption())
    .addOption(
      new Option("--database-connections <number>", "connections to that database at once, per process (default: 10)")
        .env("TACENDA_DATABASE_CONNECTIONS")
        .argParser(integer(1, 1_000)),
    )
    .addOption(keyringOption())
    .addOption(keyProviderOption())
    .addOption(
      new Option("--metrics-port <port>", "serve /metrics on this port of 127.0.0.1; off unless given")
        .env("TACENDA_METRICS_PORT")
        .argParser(integer(0, 65_535)),
    )
    .addOption(
      new Option("--cors-origin <origin>", "the one origin whose pages may call the server; none unless given")
        .env("TACENDA_CORS_ORIGIN")
        .argParser(origin),
    )
    .addOption(
      new Option("--max-connections <number>", "connections at once, per process")
        .env("TACENDA_MAX_CONNECTIONS")
        .default(DEFAULT_MAX_CONNECTIONS)
        .argParser(integer(1, 1_000_000)),
    )
    .addOption(
      new Option("--max-requests <number>", "reads, writes and tasks of administration worked on at once, of each")
        .env("TACENDA_MAX_REQUESTS")
        .default(DEFAULT_MAX_REQUESTS)
        .argParser(integer(1, 10_000)),
    )
    .addOption(
      new Option("--body-memory <MiB>", "memory for large bodies, and as much for large answers")
        .env("TACENDA_BODY_MEMORY")
        .default(DEFAULT_BODY_MEMORY, String(DEFAULT_BODY_MEMORY / MEBIBYTE))
        .argParser((text) => integer(1, 1_048_576)(text) * MEBIBYTE),
    )
    .addOption(
      new Option("--rate-limit <rate>", "requests per second of one token, 100 or with its burst 100/1000; or off")
        .env("TACENDA_RATE_LIMIT")
        .default(null, "off")
        .argParser(rate),
    )
    .addOption(
      new Option("--log-level <level>", "least level to log")
        .env("TACENDA_LOG_LEVEL")
        .choices(LOG_LEVELS)
        .default(defaultLogLevel),
    );
}

/** Adds the flags that say how long keys are used. */
function addKeyFlags(command: Command): Command {
  return command
    .addOption(
      new Option("--master-key-rotation <time>", "rotate the master key when it is older, or off")
        .env("TACENDA_MASTER_KEY_ROTATION")
        .default(MASTER_KEY_ROTATION, "90d")
        .argParser(period),
    )
    .addOption(
      new Option("--data-key-rotation <time>", "give each store a new data key when it is older, or off")
        .env("TACENDA_DATA_KEY_ROTATION")
        .default(null, "off")
        .argParser(period),
    )
    .addOption(
      new Option("--key-cache-ttl <time>", "how long unwrapped store keys are used before they are loaded again")
        .env("TACENDA_KEY_CACHE_TTL")
        .default(DEFAULT_KEY_TTL, "5m")
        .argParser(duration),
    )
    .addOption(
      new Option("--key-cache-grace <time>", "how long after that reads go on while the key provider fails")
        .env("TACENDA_KEY_CACHE_GRACE")
        .default(DEFAULT_KEY_GRACE, "15m")
        .argParser(duration),
    );
}

/** Seconds for which a token that has made no request may do so at once, unless the burst is given. */
const BURST_SECONDS = 10;

/** `100` or `100/1000`: per second, and the burst. */
function rate(text: string): Rate | null {
  if (text === "off") return null;
  const [, perSecond = "", burst] = /^([0-9]{1,6})(?:\/([0-9]{1,7}))?$/.exec(text) ?? [];
  const limit = { perSecond: Number(perSecond), burst: Number(burst ?? Number(perSecond) * BURST_SECONDS) };
  if (limit.perSecond > 0 && limit.burst > 0) return limit;
  throw new InvalidArgumentError("It must be requests per second, with or without a burst, or off: 100, 100/1000.");
}

const UNITS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of a duration such as `90d`, `12h`, `5m` or `0s`. */
function duration(text: string): number {
  const [, count, unit] = /^([0-9]{1,6})([smhd])$/.exec(text) ?? [];
  const milliseconds = Number(count) * (UNITS[unit ?? ""] ?? NaN);
  if (Number.isSafeInteger(milliseconds)) return milliseconds;
  throw new InvalidArgumentError("It must be a number and a unit: 30s, 5m, 12h or 90d.");
}

function period(text: string): number | null {
  if (text === "off") return null;
  const milliseconds = duration(text);
  if (milliseconds > 0) return milliseconds;
  throw new InvalidArgumentError("It must be longer than nothing, or off.");
}

/** Collects the values of a repeated flag; a variable holds several with spaces between. */
function several(text: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), ...text.split(/\s+/).filter((word) => word !== "")];
}

/** Addresses and networks, with commas or spaces between. */
function networks(text: string): string[] {
  const entries = text.split(/[\s,]+/).filter((word) => word !== "");
  try {
    parseNetworks(entries);
  } catch (error) {
    throw error instanceof InvalidOptionError ? new InvalidArgumentError(error.message) : error;
  }
  return entries;
}

/** Where the certificate is and its key, if there is to be one. @throws {InvalidOptionError} when one of the two is missing */
function tlsFiles({ tlsCert, tlsKey }: ServeFlags): TlsFiles | undefined {
  if (tlsCert === undefined && tlsKey === undefined) return undefined;
  if (tlsCert !== undefined && tlsKey !== undefined) return { certFile: tlsCert, keyFile: tlsKey };
  throw new InvalidOptionError(
    "TLS needs a certificate and its private key: give both --tls-cert (TACENDA_TLS_CERT) and --tls-key (TACENDA_TLS_KEY), or neither.",
  );
}

/** The options of the server that flags and environment name. @throws {InvalidOptionError} when they do not go together */
export function toServerOptions(flags: ServeFlags, rootToken: string | undefined): ServerOptions {
  const { host, port, dataDir, keyring, keyProvider, metricsPort, corsOrigin, maxConnections } = flags;
  const { databaseUrl, databaseConnections, maxRequests, bodyMemory, rateLimit } = flags;
  const { masterKeyRotation, dataKeyRotation, keyCacheTtl, keyCacheGrace, trustedProxies } = flags;
  const tls = tlsFiles(flags);
  return {
    host,
    port,
    dataDir,
    ...{ maxConnections, maxRequests, bodyMemory },
    ...{ masterKeyRotation, dataKeyRotation, keyCacheTtl, keyCacheGrace },
    ...(tls !== undefined && { tls }),
    ...(trustedProxies !== undefined && { trustedProxies }),
    ...(databaseUrl !== undefined && { databaseUrl }),
    ...(databaseConnections !== undefined && { databaseConnections }),
    ...(keyProvider !== undefined && { keyProviders: keyProvider }),
    ...(keyring !== undefined && { keyringFile: keyring }),
    ...(metricsPort !== undefined && { metricsPort }),
    ...(corsOrigin !== undefined && { corsOrigin }),
    ...(rateLimit !== null && { rateLimit }),
    ...(rootToken !== undefined && { rootToken }),
  };
}

export function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  };
}

function origin(text: string): string {
  if (URL.canParse(text) && new URL(text).origin === text) return text;
  throw new InvalidArgumentError("It must be one origin, for instance https://console.example.com, without a path.");
}
