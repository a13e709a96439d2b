/** The flags of tacenda-server and the TACENDA_* variables behind them; a flag wins over a variable, a variable over the default. */

import { Command, InvalidArgumentError, Option } from "commander";

import { DEFAULT_MAX_CONNECTIONS, type ServerOptions } from "../server.js";

const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** What the flags of `serve` and `dev` come to. */
export interface ServeFlags {
  host: string;
  port: number;
  dataDir: string;
  keyring?: string;
  metricsPort?: number;
  corsOrigin?: string;
  maxConnections: number;
  logLevel: LogLevel;
}

/** Which data directory. */
export function dataDirOption(): Option {
  return new Option("--data-dir <directory>", "where the database and the keyring are")
    .env("TACENDA_DATA_DIR")
    .default("./tacenda-data");
}

/** Which keyring. */
export function keyringOption(): Option {
  return new Option("--keyring <file>", "the master keys (default: keyring.json in the data directory)").env(
    "TACENDA_KEYRING",
  );
}

/** Adds the flags that `serve` and `dev` share. */
export function addServeFlags(command: Command, defaultLogLevel: LogLevel): Command {
  return command
    .addOption(new Option("--host <host>", "address to listen on").env("TACENDA_HOST").default("127.0.0.1"))
    .addOption(
      new Option("--port <port>", "port to listen on; 0 for any free one")
        .env("TACENDA_PORT")
        .default(4200)
        .argParser(integer(0, 65_535)),
    )
    .addOption(dataDirOption())
    .addOption(keyringOption())
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
      new Option("--max-connections <number>", "connections at once")
        .env("TACENDA_MAX_CONNECTIONS")
        .default(DEFAULT_MAX_CONNECTIONS)
        .argParser(integer(1, 1_000_000)),
    )
    .addOption(
      new Option("--log-level <level>", "least level to log")
        .env("TACENDA_LOG_LEVEL")
        .choices(LOG_LEVELS)
        .default(defaultLogLevel),
    );
}

/** The options of the server that flags and environment name. */
export function toServerOptions(flags: ServeFlags, rootToken: string | undefined): ServerOptions {
  const { host, port, dataDir, keyring, metricsPort, corsOrigin, maxConnections } = flags;
  return {
    host,
    port,
    dataDir,
    maxConnections,
    ...(keyring !== undefined && { keyringFile: keyring }),
    ...(metricsPort !== undefined && { metricsPort }),
    ...(corsOrigin !== undefined && { corsOrigin }),
    ...(rootToken !== undefined && { rootToken }),
  };
}

function integer(least: number, most: number): (text: string) => number {
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
