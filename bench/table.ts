/** The table as text. */

import type { Machine } from "./machine.ts";
import { type Measure, isMet } from "./measure.ts";
import type { Summary } from "./stats.ts";

const HEADINGS = ["row", "what", "median", "p10 – p90", "rounds", "target", "", "peer"];
/** Columns of words; the others hold numbers. */
const LEFT = new Set([0, 1, 6]);

/** The measures, one line each. */
export function formatTable(measures: readonly Measure[]): string {
  const lines = [HEADINGS, ...measures.map(cells)];
  const widths = HEADINGS.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const pad = (text: string, column: number) =>
    LEFT.has(column) ? text.padEnd(widths[column] ?? 0) : text.padStart(widths[column] ?? 0);
  const rows = lines.map((line) => line.map(pad).join("  ").trimEnd());
  const rule = widths.map((width) => "─".repeat(width)).join("  ");
  return [rows[0], rule, ...rows.slice(1)].join("\n");
}

export function formatMachine({ cpu, cores, system, node, loadBefore, durable }: Machine): string {
  const disk = durable
    ? ""
    : "\nThe temporary folder is in memory: P8 writes nothing durable here. Set TMPDIR to a disk.";
  return `${cpu}, ${cores} cores, ${system}, Node ${node}, load before ${loadBefore.toFixed(1)}${disk}`;
}

function cells(measure: Measure): string[] {
  const { row, what, unit, ours, target, peer } = measure;
  const met = isMet(measure);
  return [
    row,
    what,
    `${digits(ours.median)} ${unit}`,
    spread(ours),
    String(ours.rounds),
    target === undefined ? "–" : `${target.bound === "at most" ? "≤" : "≥"} ${target.value}`,
    met === undefined ? "" : met ? "met" : "NOT MET",
    peerCell(peer),
  ];
}

function peerCell(peer: Measure["peer"]): string {
  if (peer === undefined) return "–";
  return peer === null ? "not installed" : `${digits(peer.median)} (${spread(peer)})`;
}

function spread({ p10, p90 }: Summary): string {
  return `${digits(p10)} – ${digits(p90)}`;
}

/** Two to three significant digits. */
function digits(value: number): string {
  if (value > 0 && value < 0.1) return value.toPrecision(2);
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
