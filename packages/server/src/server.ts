/** A server from its options to its end: one process, its database, its key providers; spec/http.md § Starting. */

import { once } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";

import { DEFAULT_PROJECT } from "@tacenda/protocol";

import { createApp } from "./app.js";
import { ensureRootToken, givenRootDigest, storedRootDigest } from "./auth/root-token.js";
import { TokenUses } from "./auth/token-uses.js";
import { checkOptions } from "./check-options.js";
import { openDataDirectory, type DataDirectory } from "./data-directory.js";
import { Destructions } from "./envelope/destructions.js";
import { EnvelopeStore } from "./envelope/envelope-store.js";
import type { KeyProvider } from "./envelope/key-provider.js";
import type { KeyProviders } from "./envelope/key-providers.js";
import { StoreKeys } from "./envelope/store-keys.js";
import { createExpiryPurge } from "./expiry-purge.js";
import type { AccessEvent } from "./http/dispatch.js";
import { createNodeServer } from "./http/node-server.js";
import type { Rate } from "./http/rate-limit.js";
import { KeyAdministration } from "./keys/key-administration.js";
import { KeyKeeper } from "./keys/key-keeper.js";
import { describeError, type Logger } from "./logger.js";
import { createMetrics, createMetricsServer, type Metrics } from "./metrics.js";
import { explainRefusal } from "./own-directory.js";
import { writePrivateFile } from "./private-file.js";
import { createPurge } from "./purge.js";
import { ByteQuotas } from "./quotas/byte-quotas.js";
import { ServerCertificate } from "./server-certificate.js";
import { StartupError, codeOf } from "./startup-error.js";
import type { Database } from "./storage/database.js";
import type { Directory } from "./storage/directory.js";
import type { TlsFiles } from "./tls-files.js";

export const DEFAULT_MAX_CONNECTIONS = 1_000;
export const LOOPBACK = "127.0.0.1";
const EXPIRY_MILLISECONDS = 60_000;
const KEY_MILLISECONDS = 60_000;
const TOKEN_USE_MILLISECONDS = 60_000;
const QUOTA_MILLISECONDS = 60_000;
const COUNT_MILLISECONDS = 300_000;
export const MASTER_KEY_ROTATION = 90 * 24 * 3_600_000;
/** How long requests under way may go on after `close`, in milliseconds. */
const GRACE_MILLISECONDS = 10_000;

export interface ServerOptions {
  /** Made when there is none. */
  dataDir: string;
  /**
   * `postgres://…`: the database, which other servers may use as well. By default it is an embedded one in the data directory.
   */
  databaseUrl?: string;
  /** Connections to that database at once, at most; 10 by default. */
  databaseConnections?: number;
  /** Loopback by default. */
  host?: string;
  /** 4200 by default; 0 for any free one. */
  port?: number;
  /** Serves HTTPS instead of HTTP. The files are read again when they are renewed. */
  tls?: TlsFiles;
  /** How often to look whether they were, in milliseconds; every minute by default. */
  tlsInterval?: number;
  /** Addresses and networks (`10.0.0.0/8`) of proxies whose `X-Forwarded-For` is believed; none by default. */
  trustedProxies?: readonly string[];
  /** `keyring.json` in the data directory by default. */
  keyringFile?: string;
  /**
   * Where master keys live: URIs as --key-provider takes them, or providers of the caller's own, which the server closes. The
   * first wraps new keys, until `keys migrate` names another. The local keyring by default.
   */
  keyProviders?: readonly (string | KeyProvider)[];
  /** Milliseconds after which the master key is rotated by itself, or null for never; 90 days by default. */
  masterKeyRotation?: number | null;
  /** Milliseconds after which each store gets a new data key, or null for never, as by default. */
  dataKeyRotation?: number | null;
  /** Milliseconds for which unwrapped store keys are used before they are loaded again; 5 minutes by default. */
  keyCacheTtl?: number;
  /** Milliseconds after that for which reads go on while the key provider fails; 15 minutes by default, 0 for none. */
  keyCacheGrace?: number;
  /** At least 32 visible ASCII characters; instead of the token of the first start. */
  rootToken?: string;
  /**
   * Gets the root token made on the first start, and resolves when it is kept. By default it is written to the file
   * `root-token` in the data directory.
   */
  announceRootToken?: (token: string) => Promise<void>;
  /** Serves `/metrics` on this port of 127.0.0.1; not at all by default. */
  metricsPort?: number;
  corsOrigin?: string;
  /** 1,000 by default. */
  maxConnections?: number;
  /**
   * Requests worked on at once: so many reads, so many writes, so many of administration, and an eighth as many batches. 64 by
   * default. Others wait for two seconds at most.
   */
  maxRequests?: number;
  /** Bytes of memory for large bodies on their way in, and as many for large answers on their way out; 134,217,728 by default. */
  bodyMemory?: number;
  /** Requests of one token, in this process; not limited by default. */
  rateLimit?: Rate;
  /** Silent by default. */
  logger?: Logger;
  /** Milliseconds since the epoch; the system's clock by default. */
  now?: () => number;
  /** How often to look for records that have expired, in milliseconds; every minute by default. */
  expiryInterval?: number;
  /** How often to look for work on keys that nobody has announced, in milliseconds; every minute by default. */
  keyInterval?: number;
  /** How often to write down which tokens were used, in milliseconds; every minute by default. */
  tokenUseInterval?: number;
  /** How often to look for quotas that other servers have set, in milliseconds; every minute by default. */
  quotaInterval?: number;
  /** How often to count the bytes of projects that have a quota of them, in milliseconds; every 5 minutes by default. */
  countInterval?: number;
  onAccess?: (event: AccessEvent) => void;
}

export interface RunningServer {
  /** Without a slash at its end. */
  readonly url: string;
  readonly port: number;
  /** Where `/metrics` is, or null. */
  readonly metricsUrl: string | null;
  readonly directory: Directory;
  readonly keys: StoreKeys;
  /** Stops accepting, lets requests finish for up to 10 s, and closes the database. */
  close(): Promise<void>;
}

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };

const OPTION_NAMES = {
  dataDir: "required",
  databaseUrl: "optional",
  databaseConnections: "optional",
  host: "optional",
  port: "optional",
  tls: "optional",
  tlsInterval: "optional",
  trustedProxies: "optional",
  keyringFile: "optional",
  keyProviders: "optional",
  masterKeyRotation: "optional",
  dataKeyRotation: "optional",
  keyCacheTtl: "optional",
  keyCacheGrace: "optional",
  rootToken: "optional",
  announceRootToken: "optional",
  metricsPort: "optional",
  corsOrigin: "optional",
  maxConnections: "optional",
  maxRequests: "optional",
  bodyMemory: "optional",
  rateLimit: "optional",
  logger: "optional",
  now: "optional",
  expiryInterval: "optional",
  keyInterval: "optional",
  tokenUseInterval: "optional",
  quotaInterval: "optional",
  countInterval: "optional",
  onAccess: "optional",
} as const;

const TLS_NAMES = { certFile: "required", keyFile: "required" } as const;

/**
 * Starts a server and resolves when it listens.
 *
 * @throws {TypeError} when `dataDir` or one of the files of `tls` is missing, or an option is unknown.
 * @throws {StartupError} or what openDataDirectory throws; nothing is left open then.
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  checkOptions<ServerOptions>("startServer", options, OPTION_NAMES);
  return await startServerWith(options, options.metricsPort === undefined ? undefined : createMetrics());
}

/** The same with metrics that may be served elsewhere. @throws as startServer does */
export async function startServerWith(options: ServerOptions, metrics: Metrics | undefined): Promise<RunningServer> {
  const { dataDir, databaseUrl, databaseConnections, keyringFile, keyProviders, logger = SILENT } = options;
  const rootDigest = options.rootToken === undefined ? null : givenRootDigest(options.rootToken);
  if (options.tls) checkOptions<TlsFiles>("startServer's tls", options.tls, TLS_NAMES);
  const certificate = options.tls && (await openCertificate(options.tls, options, metrics));
  const guard = { observe: metrics?.observeKeyProvider };
  const database = { databaseUrl, databaseConnections };
  const data = await openDataDirectory(dataDir, { ...database, keyringFile, keyProviders, guard, logger });
  try {
    return await run(data, options, rootDigest, metrics, certificate);
  } catch (error) {
    await data.close();
    throw error;
  }
}

/** `rootDigest`: of the root token that was given; null if it is the database's. */
async function run(
  data: DataDirectory,
  options: ServerOptions,
  rootDigest: Uint8Array | null,
  metrics: Metrics | undefined,
  certificate: ServerCertificate | undefined,
): Promise<RunningServer> {
  const { database, providers } = data;
  const { directory } = database;
  const logger = options.logger ?? SILENT;
  const now = options.now ?? Date.now;
  await directory.createProject({ id: DEFAULT_PROJECT, createdAt: now() });
  const keep = options.announceRootToken ?? ((token) => writeRootToken(options.dataDir, token, logger));
  let isAnnounced = false as boolean;
  const announce = async (token: string) => {
    await keep(token);
    isAnnounced = true;
  };
  if (rootDigest === null && !(await ensureRootToken(directory, announce))) {
    throw new StartupError(
      "While this server was held up, another one made the root token, or it was reset. The one that was made here never holds: " +
        "forget it, delete the file root-token if it was written to that, and start again.",
    );
  }
  await data.started();

  const keys = new StoreKeys({
    directory: database.keys,
    providers,
    destructions: new Destructions(() => directory.destructions()),
    ...(options.keyCacheTtl !== undefined && { ttl: options.keyCacheTtl }),
    ...(options.keyCacheGrace !== undefined && { grace: options.keyCacheGrace }),
  });
  const purge = createPurge(database.maintenance, logger);
  const interval = options.expiryInterval ?? EXPIRY_MILLISECONDS;
  const expiry = createExpiryPurge({ maintenance: database.maintenance, keys, logger, now, interval });
  const masterKeyPeriod = options.masterKeyRotation === undefined ? MASTER_KEY_ROTATION : options.masterKeyRotation;
  const keyServices = { keys: database.keys, providers, storeKeys: keys, maintenance: database.maintenance, now };
  const keeper = new KeyKeeper({
    ...keyServices,
    logger,
    periods: { masterKey: masterKeyPeriod, dataKey: options.dataKeyRotation ?? null },
    interval: options.keyInterval ?? KEY_MILLISECONDS,
    onProgress: metrics?.setKeyWork,
  });
  const tokenUses = new TokenUses({ directory, logger, interval: options.tokenUseInterval ?? TOKEN_USE_MILLISECONDS });
  const quotas = new ByteQuotas({
    quotas: database.quotas,
    maintenance: database.maintenance,
    logger,
    now,
    interval: options.quotaInterval ?? QUOTA_MILLISECONDS,
    countInterval: options.countInterval ?? COUNT_MILLISECONDS,
  });
  const app = createApp({
    records: new EnvelopeStore(database.records, keys),
    directory,
    keys,
    keyAdministration: new KeyAdministration({ ...keyServices, keeper, masterKeyPeriod }),
    rootTokenDigest: rootDigest ?? (() => storedRootDigest(directory)),
    readinessChecks: [() => database.check(), () => checkProvider(providers)],
    purgeDestroyed: () => purge.start(),
    scrub: () => scrub(database, logger),
    quotas,
    noteTokenUse: (id, day) => tokenUses.note(id, day),
    logger,
    now,
    ...(metrics && { metrics }),
    ...(options.onAccess && { onAccess: options.onAccess }),
    ...(options.corsOrigin !== undefined && { corsOrigin: options.corsOrigin }),
    admission: { maxRequests: options.maxRequests, bodyMemory: options.bodyMemory },
    ...(options.rateLimit && { rateLimit: options.rateLimit }),
    ...(options.trustedProxies && { trustedProxies: options.trustedProxies }),
  });
  await quotas.start();
  if (metrics && (await database.diskUse()) !== null) metrics.watchDisk(() => database.diskUse());
  // What was destroyed before the last stop may not have been purged to its end.
  purge.start();
  expiry.start();
  tokenUses.start();
  // What was begun before the last stop may not have come to its end.
  keeper.wake();

  const host = options.host ?? LOOPBACK;
  const server = createNodeServer(app, options.maxConnections ?? DEFAULT_MAX_CONNECTIONS, undefined, certificate);
  if (metrics) server.on("drop", () => metrics.countDropped());
  const stop = async (listeners: Server[]) => {
    certificate?.stop();
    await Promise.all(listeners.map(closeListener));
    await Promise.all([purge.stop(), expiry.stop(), keeper.stop(), tokenUses.stop(), quotas.stop()]);
  };
  const listeners: Server[] = [server];
  const metricsServer = metrics && options.metricsPort !== undefined ? createMetricsServer(metrics) : undefined;
  if (metricsServer) listeners.push(metricsServer);
  try {
    await listen(server, host, options.port ?? 4200, "--port or --host");
    if (metricsServer) await listen(metricsServer, LOOPBACK, options.metricsPort ?? 0, "--metrics-port");
  } catch (error) {
    await stop(listeners);
    if (!isAnnounced || !(error instanceof StartupError)) throw error;
    throw new StartupError(`${error.message} ${ANNOUNCED}`, { cause: error });
  }
  const port = portOf(server);
  const url = `${certificate ? "https" : "http"}://${host.includes(":") ? `[${host}]` : host}:${port}`;
  let closing: Promise<void> | undefined;
  return {
    url,
    port,
    metricsUrl: metricsServer ? `http://${LOOPBACK}:${portOf(metricsServer)}/metrics` : null,
    directory,
    keys,
    close: () => (closing ??= stop(listeners).then(() => data.close())),
  };
}

/** @throws {StartupError} */
async function openCertificate(files: TlsFiles, options: ServerOptions, metrics: Metrics | undefined) {
  const { logger = SILENT, now = Date.now, tlsInterval: interval } = options;
  return await ServerCertificate.open({ files, logger, now, interval, onExpiry: metrics?.setCertificateExpiry });
}

/** The keys are gone by then, whatever becomes of this; the purge tries again. */
async function scrub({ maintenance }: Database, logger: Logger): Promise<void> {
  try {
    await maintenance.scrub();
  } catch (error) {
    logger.error({ error: describeError(error) }, "overwriting the database's log failed");
  }
}

/** The one that new keys need. Others may be away while what they wrapped is in the cache. */
async function checkProvider(providers: KeyProviders): Promise<void> {
  await (await providers.active()).health();
}

/** Only the owner of the data directory can read the file. */
async function writeRootToken(dataDir: string, token: string, logger: Logger): Promise<void> {
  const directory = resolve(dataDir);
  const file = join(directory, "root-token");
  try {
    await writePrivateFile(file, `${token}\n`);
  } catch (error) {
    throw explainRefusal(directory, error);
  }
  logger.warn({ file }, "the root token was written to this file: keep it elsewhere, then delete the file");
}

const ANNOUNCED =
  "The root token that was made by this start holds all the same, and no later start shows it again: keep it.";

/** `flags`: what to change when it cannot listen there. */
export async function listen(server: Server, host: string, port: number, flags: string): Promise<void> {
  server.listen(port, host);
  try {
    await once(server, "listening");
  } catch (error) {
    const code = codeOf(error) ?? "unknown";
    throw new StartupError(`Cannot listen on port ${port} of ${host} (${code}). Choose another ${flags}.`);
  }
}

export function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

export async function closeListener(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, "close");
  server.close();
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), GRACE_MILLISECONDS);
  await closed;
  clearTimeout(timer);
}
