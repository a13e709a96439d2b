/** The server as a Hono app, to be run by tacenda-server or embedded in another host; spec/http.md. */

import { Hono } from "hono";

import { Authenticator } from "./auth/authenticator.js";
import { RootDigest } from "./auth/root-digest.js";
import { checkOptions } from "./check-options.js";
import { Admission, type AdmissionOptions } from "./http/admission.js";
import type { KeyAdministrator, QuotaKeeper, Services, StoreKeyMaker } from "./http/call.js";
import { createAddressOf } from "./http/client-address.js";
import { corsHeaders, preflight } from "./http/cors.js";
import {
  dispatch,
  dispatchFailed,
  dispatchUnmatched,
  type AccessEvent,
  type NodeEnv,
  type Pipeline,
} from "./http/dispatch.js";
import { MismatchLimit } from "./http/mismatch-limit.js";
import { describeApi } from "./http/openapi.js";
import { routingPath } from "./http/paths.js";
import { RateLimit, type Rate } from "./http/rate-limit.js";
import { ALWAYS_HEADERS } from "./http/reply.js";
import { ROUTES } from "./http/routes.js";
import { StoreSettings } from "./http/store-settings.js";
import type { Logger } from "./logger.js";
import type { Metrics } from "./metrics.js";
import { createReadiness } from "./readiness.js";
import type { Directory } from "./storage/directory.js";
import type { RecordStore } from "./storage/record-store.js";

/** What an app is made of. */
export interface AppDependencies {
  /** The envelope: its ids are key hashes, its bodies sealed records. */
  records: RecordStore;
  directory: Directory;
  keys: StoreKeyMaker;
  keyAdministration: KeyAdministrator;
  /**
   * SHA-256 of the root token, 32 bytes; or what looks it up, null when there is none, and is called again when it may have
   * changed, at most once a second.
   */
  rootTokenDigest: Uint8Array | (() => Promise<Uint8Array | null>);
  /** Each resolves when a part of the server can be used: the database, the key provider. */
  readinessChecks: readonly (() => Promise<void>)[];
  /** Begins to purge, in the background, the rows of stores and versions that were destroyed. */
  purgeDestroyed: () => void;
  /** Overwrites what the deletion of keys has left in the database's own log; it does not throw. Nothing by default. */
  scrub?: () => Promise<void>;
  /** Knows the bounds on projects' bytes; without it they are not enforced. */
  quotas?: QuotaKeeper;
  /** Told on which day (its begin in UTC, in milliseconds since the epoch) a token was used, once per token and day or more often. */
  noteTokenUse?: (id: string, day: number) => void;
  logger: Logger;
  metrics?: Metrics;
  /** Milliseconds since the epoch; the system's clock by default. */
  now?: () => number;
  /** Called once per request, after its answer is known. It must not throw. */
  onAccess?: (event: AccessEvent) => void;
  /** The one origin whose pages may call the server; none by default. */
  corsOrigin?: string;
  /** What is taken on at once. */
  admission?: AdmissionOptions;
  /** Requests of one token; not limited by default. */
  rateLimit?: Rate;
  /** Addresses and networks of proxies whose `X-Forwarded-For` is believed; none by default. */
  trustedProxies?: readonly string[];
}

const DEPENDENCY_NAMES = {
  records: "required",
  directory: "required",
  keys: "required",
  keyAdministration: "required",
  rootTokenDigest: "required",
  readinessChecks: "required",
  purgeDestroyed: "required",
  scrub: "optional",
  quotas: "optional",
  noteTokenUse: "optional",
  logger: "required",
  metrics: "optional",
  now: "optional",
  onAccess: "optional",
  corsOrigin: "optional",
  admission: "optional",
  rateLimit: "optional",
  trustedProxies: "optional",
} as const;

const NO_QUOTAS: QuotaKeeper = { of: () => undefined, refresh: () => Promise.resolve() };

/**
 * Makes the app. It starts nothing and keeps nothing open.
 *
 * @throws {TypeError} when a dependency is missing or unknown.
 * @throws {StartupError} when a trusted proxy is neither an address nor a network.
 */
export function createApp(dependencies: AppDependencies): Hono<NodeEnv> {
  checkOptions<AppDependencies>("createApp", dependencies, DEPENDENCY_NAMES);
  const { records, directory, keys, keyAdministration, rootTokenDigest, purgeDestroyed } = dependencies;
  const { logger, metrics, onAccess, corsOrigin, rateLimit } = dependencies;
  const now = dependencies.now ?? Date.now;
  const rootDigest = new RootDigest(rootTokenDigest, () => logger.warn({}, "the root token was replaced"));
  const authenticator = new Authenticator(directory, rootDigest, now, dependencies.noteTokenUse);
  const admission = new Admission(dependencies.admission);
  metrics?.watch(admission);
  const services: Services = {
    records,
    directory,
    settings: new StoreSettings(directory),
    keys,
    keyAdministration,
    now,
    purgeDestroyed,
    scrub: dependencies.scrub ?? (() => Promise.resolve()),
    quotas: dependencies.quotas ?? NO_QUOTAS,
    mismatches: new MismatchLimit(),
    rateLimit: rateLimit === undefined ? null : new RateLimit(rateLimit),
    checkReady: createReadiness(dependencies.readinessChecks),
    forgetTokens: () => authenticator.forget(),
    openapi: JSON.stringify(describeApi(ROUTES)),
  };
  const headers = { ...ALWAYS_HEADERS, ...(corsOrigin !== undefined && corsHeaders(corsOrigin)) };
  const addressOf = createAddressOf(dependencies.trustedProxies ?? []);
  const pipeline: Pipeline = { authenticator, admission, services, logger, metrics, onAccess, addressOf, headers };

  const app = new Hono<NodeEnv>({ getPath: (request, options) => routingPath(request, options?.env?.incoming) });
  for (const route of ROUTES) app.on(route.method, route.path, (context) => dispatch(context, route, pipeline));
  if (corsOrigin !== undefined) app.options("*", (context) => preflight(context, pipeline));
  app.notFound((context) => dispatchUnmatched(context, pipeline));
  app.onError((error, context) => dispatchFailed(context, error, pipeline));
  return app;
}
