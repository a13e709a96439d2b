/** Order statistics of rounds. */

/** What rounds of one measure come to. */
export interface Summary {
  median: number;
  p10: number;
  p90: number;
  rounds: number;
}

/** @throws {Error} when there are no samples. */
export function summarize(samples: readonly number[]): Summary {
  if (samples.length === 0) throw new Error("There is nothing to summarize: run at least one round.");
  const sorted = samples.toSorted((a, b) => a - b);
  return {
    median: quantile(sorted, 0.5),
    p10: quantile(sorted, 0.1),
    p90: quantile(sorted, 0.9),
    rounds: sorted.length,
  };
}

/** The sample that `fraction` (0 … 1) of the others are below. */
export function quantileOf(samples: readonly number[], fraction: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.floor(fraction * (sorted.length - 1))] ?? NaN;
}

/** Interpolates between the two samples nearest to `fraction` (0 … 1) of the way. */
function quantile(sorted: readonly number[], fraction: number): number {
  const position = fraction * (sorted.length - 1);
  const below = sorted[Math.floor(position)] ?? NaN;
  const above = sorted[Math.ceil(position)] ?? NaN;
  return below + (above - below) * (position - Math.floor(position));
}
