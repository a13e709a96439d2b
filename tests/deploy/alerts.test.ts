/** The alerts of deploy/ ask for metrics, labels and routes that a server has. When they say something, alerts.test.yaml there tests. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { getCACertificates, setDefaultCACertificates } from "node:tls";

import { expect, test } from "vitest";
import { parse } from "yaml";

import { Authority } from "../../packages/server/test/certificates.ts";
import { openWorld } from "../world.ts";

const RULES = join(import.meta.dirname, "../../deploy/alerts.yaml");
/** Prometheus adds these itself. */
const OF_PROMETHEUS = { metrics: ["up"], labels: ["job", "instance"] };

interface Rules {
  groups: { rules: { alert: string; expr: string }[] }[];
}

/** `name{label="…"}` in what a server serves, or in a rule. */
function selectorsIn(text: string): { name: string; labels: string[] }[] {
  return [...text.matchAll(/\b([a-z0-9_]+)\{([^}]*)\}/g)].map(([, name = "", inside = ""]) => ({
    name,
    labels: [...inside.matchAll(/([a-z_]+)(?:=|!=|=~|!~)"/g)].map(([, label = ""]) => label),
  }));
}

test("every metric, label and route in a rule is one that the server serves", async () => {
  // With a certificate, or none would be said to end.
  await using authority = await Authority.create();
  setDefaultCACertificates([...getCACertificates("default"), authority.certificate]);
  await using world = await openWorld({ metricsPort: 0, tls: await authority.issue() });
  await world.store().setValue("k", "v");
  await world.store().getValue("k");
  const text = await (await fetch(world.server.metricsUrl ?? "")).text();
  const names = [...text.matchAll(/^([a-z0-9_]+)(?=[ {])/gm)].map(([name]) => name);
  const served = new Set([...names, ...OF_PROMETHEUS.metrics]);
  const labelsOf = (metric: string) =>
    new Set(selectorsIn(text).flatMap(({ name, labels }) => (name === metric ? labels : [])));

  const { groups } = parse(readFileSync(RULES, "utf8")) as Rules;
  for (const { alert, expr } of groups.flatMap(({ rules }) => rules)) {
    const selectors = selectorsIn(expr);
    expect(selectors, alert).not.toEqual([]);
    for (const { name, labels } of selectors) {
      expect(served, alert).toContain(name);
      const known = [...labelsOf(name), ...OF_PROMETHEUS.labels];
      for (const label of labels) expect(known, `${alert}: ${name}`).toContain(label);
    }
    for (const [route] of expr.matchAll(/route="[^"]+"/g)) expect(text, alert).toContain(route);
  }
});
