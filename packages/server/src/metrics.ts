/** Counts and times requests by route template, method and status, and by nothing else; spec/http.md § Metrics. */

import { createServer, type Server } from "node:http";

import { Histogram, Registry, collectDefaultMetrics } from "prom-client";

export interface Metrics {
  /** Counts one request. `seconds` from its arrival to its answer. */
  observe(route: string, method: string, status: number, seconds: number): void;
  /** The text that Prometheus scrapes. */
  render(): Promise<string>;
}

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
  return {
    observe: (route, method, status, seconds) => durations.observe({ route, method, status }, seconds),
    render: () => registry.metrics(),
  };
}

/** Answers `GET /metrics` and nothing else; for a listener of its own, because it needs no token. */
export function createMetricsServer(metrics: Metrics): Server {
  return createServer((request, response) => {
    if (request.method !== "GET" || request.url !== "/metrics") {
      response.writeHead(404).end();
      return;
    }
    metrics.render().then(
      (text) => response.writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" }).end(text),
      () => response.writeHead(500).end(),
    );
  });
}
