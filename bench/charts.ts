/**
 * Draws the curves of `npm run --silent bench -- --only GROWTH --json` from that output, given as a file, into bench/charts:
 * `node bench/charts.ts FILE`.
 */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import type { Figures } from "./guard.ts";
import type { Measure } from "./measure.ts";
import type { Summary } from "./stats.ts";

const WIDTH = 640;
const HEIGHT = 300;
const LEFT = 64;
const RIGHT = 16;
const TOP = 44;
const BOTTOM = 44;
const COLORS = { GET: "#2563eb", PUT: "#d97706" } as const;

interface Point extends Summary {
  x: number;
  method: "GET" | "PUT";
}

/** Points whose description has a number in the place of the parentheses of `pattern`. */
function pointsOf(measures: readonly Measure[], pattern: RegExp): Point[] {
  return measures.flatMap(({ row, what, ours }) => {
    const [, method, x] = pattern.exec(what) ?? [];
    if (row !== "GROWTH" || (method !== "GET" && method !== "PUT") || x === undefined) return [];
    return [{ ...ours, method, x: Number(x) }];
  });
}

/** Both axes are logarithmic: twice as much is as far everywhere. */
function scale(from: number, to: number, begin: number, end: number): (value: number) => number {
  const share = (value: number) => (Math.log(value) - Math.log(from)) / (Math.log(to) - Math.log(from) || 1);
  return (value) => begin + share(value) * (end - begin);
}

function draw(title: string, unit: string, points: readonly Point[], machine: string): string {
  const values = points.map(({ x }) => x);
  const x = scale(Math.min(...values), Math.max(...values), LEFT, WIDTH - RIGHT);
  const powers = (least: number, most: number) =>
    Array.from(
      { length: Math.ceil(Math.log10(most)) - Math.floor(Math.log10(least)) + 1 },
      (_, index) => 10 ** (Math.floor(Math.log10(least)) + index),
    );
  const ticks = powers(Math.min(...points.map(({ p10 }) => p10)), Math.max(...points.map(({ p90 }) => p90)));
  const y = scale(ticks[0] ?? 1, ticks.at(-1) ?? 10, HEIGHT - BOTTOM, TOP);
  const grid = ticks.map(
    (tick) =>
      `<path d="M${LEFT} ${y(tick)}H${WIDTH - RIGHT}" stroke="#ddd"/>` +
      `<text x="${LEFT - 6}" y="${y(tick) + 4}" text-anchor="end">${tick.toLocaleString("en")}</text>`,
  );
  const labels = [...new Set(values)].map(
    (value) =>
      `<text x="${x(value)}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${value.toLocaleString("en")}</text>`,
  );
  const curves = (["GET", "PUT"] as const).flatMap((method, index) => {
    const own = points.filter((point) => point.method === method);
    if (own.length === 0) return [];
    const line = own.map((point) => `${x(point.x)},${y(point.median)}`).join(" ");
    const spread = own.map(
      (point) => `<path d="M${x(point.x)} ${y(point.p10)}V${y(point.p90)}" stroke-width="4" opacity="0.3"/>`,
    );
    return [
      `<g fill="none" stroke="${COLORS[method]}" stroke-width="2"><polyline points="${line}"/>${spread.join("")}</g>`,
      `<text x="${WIDTH - RIGHT - 60 * (1 - index)}" y="20" text-anchor="end" fill="${COLORS[method]}">${method}</text>`,
    ];
  });
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">` +
    `<rect width="100%" height="100%" fill="#fff"/><text x="${LEFT}" y="20" font-weight="bold">${title}</text>` +
    `<text x="${LEFT}" y="36" fill="#666">requests/s; ${machine}; bars from the 10th to the 90th percentile</text>` +
    [...grid, ...labels, ...curves].join("") +
    `<text x="${WIDTH / 2}" y="${HEIGHT - 8}" text-anchor="middle" fill="#666">${unit}</text></svg>\n`
  );
}

const [file] = process.argv.slice(2);
if (file === undefined) throw new Error("Name the file that has the JSON of --only GROWTH.");
const { machine, measures } = JSON.parse(readFileSync(file, "utf8")) as Figures;
const where = `${machine.cpu}, ${machine.cores} cores, Node ${machine.node}`;
const folder = join(import.meta.dirname, "charts");
mkdirSync(folder, { recursive: true });
const save = (name: string, svg: string) => writeFileSync(join(folder, name), svg);
save(
  "connections.svg",
  draw("Requests/s by connections", "connections", pointsOf(measures, /^(GET|PUT), ([0-9]+) connections$/), where),
);
save(
  "sizes.svg",
  draw("Requests/s by size", "bytes of a value", pointsOf(measures, /^(GET|PUT), values of ([0-9]+) bytes/), where),
);
save("stores.svg", draw("GETs/s by stores", "stores", pointsOf(measures, /^(GET), ([0-9]+) stores$/), where));
