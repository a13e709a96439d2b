/** The table that a run ends with. */

import type { Outcome } from "./suite/plan.ts";

export interface Row extends Outcome {
  runtime: string;
  version: string;
  seconds: number;
}

/** One line per runtime, in columns. */
export function formatTable(rows: readonly Row[]): string {
  const lines = [
    ["runtime", "version", "passed", "failed", "seconds"],
    ...rows.map(({ runtime, version, passed, failures, seconds }) => [
      runtime,
      version,
      String(passed),
      String(failures.length),
      seconds.toFixed(1),
    ]),
  ];
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const cell = (text: string, column: number) =>
    column < 2 ? text.padEnd(widths[column] ?? 0) : text.padStart(widths[column] ?? 0);
  return lines.map((line) => line.map(cell).join("  ")).join("\n");
}
