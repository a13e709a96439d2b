/**
 * Counts and times requests by route template, method and status, and calls to key providers by kind, operation and outcome, and
 * by nothing else; spec/http.md § Metrics.
 */

import { createServer, type Server } from "node:http";

import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from "prom-client";

import type { ObserveKeyProvider } from "./envelope/guarded-key-provider.js";
import type { DiskUse } from "./storage/database.js";

/** How much the server has taken on. */
interface Load {
  /** Requests worked on, and requests that wait for it. */
  readonly working: number;
  readonly waiting: number;
  /** Bytes of memory for large bodies and answers. */
  readonly bytes: number;
}

export interface Metrics {
  /** Counts one request. `seconds` from its arrival to its answer. */
  observe(route: string, method: string, status: number, seconds: number): void;
  /** Counts one call to a key provider. */
  observeKeyProvider: ObserveKeyProvider;
  /** How many store keys are not under the current master key, and how many stores are being re-encrypted. */
  setKeyWork: (outdatedWraps: number, reencryptions: number) => void;
  /** Until when the certificate of the listener is valid, in milliseconds since the epoch; shown once it is known. */
  setCertificateExpiry: (validTo: number) => void;
  /** Shows the load from now on. */
  watch(load: Load): void;
  /** Counts a request that was answered `overloaded`. */
  countShed(): void;
  /** Counts a connection that was dropped without an answer. */
  countDropped(): void;
  /** What to ask, whenever somebody looks, for the bytes that the database takes; see DiskUse. */
  watchDisk(diskUse: () => Promise<DiskUse | null>): void;
  /** All values, for another process to make one text of them and of others. */
  snapshot(): Promise<object[]>;
  /** The text that Prometheus scrapes. */
  render(): Promise<string>;
}

/** Connections to the metrics at once: each may make their whole text. */
const MAX_SCRAPERS = 16;
const BUCKETS_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];

/** Metrics in a registry of their own, with the process's memory and CPU. */
export function createMetrics(): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const durations = new Histogram({
    name: "tacenda_http_request_duration_seconds",
    help: "Duration of requests",
    labelNames: ["route", "method", "status"],
    buckets: BUCKETS_SECONDS,
    registers: [registry],
  });
  const providerDurations = new Histogram({
    name: "tacenda_key_provider_duration_seconds",
    help: "Duration of calls to key providers",
    labelNames: ["kind", "operation", "outcome"],
    buckets: BUCKETS_SECONDS,
    registers: [registry],
  });
  const outdated = new Gauge({
    name: "tacenda_outdated_key_wraps",
    help: "Store keys that are not yet wrapped under the current master key",
    // Every process tells what it has seen in the one database.
    aggregator: "max",
    registers: [registry],
  });
  const reencrypting = new Gauge({
    name: "tacenda_reencryptions",
    help: "Stores whose records are being encrypted under a newer data key",
    aggregator: "max",
    registers: [registry],
  });
  let load: Load = { working: 0, waiting: 0, bytes: 0 };
  addGauge(registry, "tacenda_requests_working", "Requests being worked on", () => load.working);
  addGauge(registry, "tacenda_requests_waiting", "Requests that wait to be worked on", () => load.waiting);
  addGauge(registry, "tacenda_body_memory_bytes", "Memory for large bodies and answers", () => load.bytes);
  const shed = new Counter({
    name: "tacenda_requests_shed_total",
    help: "Requests answered 503 overloaded",
    registers: [registry],
  });
  const dropped = new Counter({
    name: "tacenda_connections_dropped_total",
    help: "Connections dropped without an answer, far beyond --max-connections",
    registers: [registry],
  });
  let expiry: Gauge | undefined;
  return {
    setCertificateExpiry(validTo) {
      // Not before: without a certificate it would be 0, and every alert on it ring.
      expiry ??= new Gauge({
        name: "tacenda_tls_certificate_expiry_timestamp_seconds",
        help: "When the certificate expires, in seconds since the epoch",
        aggregator: "min",
        registers: [registry],
      });
      expiry.set(validTo / 1_000);
    },
    watch: (watched) => (load = watched),
    countShed: () => shed.inc(),
    countDropped: () => dropped.inc(),
    observeKeyProvider: (kind, operation, outcome, seconds) =>
      providerDurations.observe({ kind, operation, outcome }, seconds),
    setKeyWork(outdatedWraps, reencryptions) {
      outdated.set(outdatedWraps);
      reencrypting.set(reencryptions);
    },
    watchDisk: (diskUse) => addDiskGauges(registry, diskUse),
    observe: (route, method, status, seconds) => durations.observe({ route, method, status }, seconds),
    snapshot: () => registry.getMetricsAsJSON(),
    render: () => registry.metrics(),
  };
}

const DISK: readonly (readonly [name: string, help: string, of: keyof DiskUse])[] = [
  ["tacenda_database_bytes", "The embedded database's file, all of it, without its log", "database"],
  ["tacenda_database_free_bytes", "What is free in the database and is used before its file grows", "free"],
  ["tacenda_database_log_bytes", "The embedded database's write-ahead log", "log"],
];

/** Of the database as a whole, for whoever sees its disk anyway: nothing is told of a project or a store. */
function addDiskGauges(registry: Registry, diskUse: () => Promise<DiskUse | null>): void {
  for (const [name, help, of] of DISK) {
    new Gauge({
      name,
      help,
      registers: [registry],
      async collect() {
        // What failed may succeed for the next one who looks; until then it stays as it was seen last.
        const use = await diskUse().catch(() => null);
        if (use !== null) this.set(use[of]);
      },
    });
  }
}

/** A gauge that is read when it is asked for. */
function addGauge(registry: Registry, name: string, help: string, read: () => number): void {
  const gauge: Gauge = new Gauge({ name, help, collect: () => gauge.set(read()), registers: [registry] });
}

/** Answers `GET /metrics` and nothing else; for a listener of its own, because it needs no token. */
export function createMetricsServer(metrics: Pick<Metrics, "render">): Server {
  const server = createServer((request, response) => {
    if (request.method !== "GET" || request.url !== "/metrics") {
      response.writeHead(404).end();
      return;
    }
    metrics.render().then(
      (text) => response.writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" }).end(text),
      () => response.writeHead(500).end(),
    );
  });
  server.maxConnections = MAX_SCRAPERS;
  return server;
}
