/** Shows how far long work has come: a bar on a terminal, a line now and then elsewhere. */

import { SingleBar } from "cli-progress";

/** How often a line is written where there is no terminal, in milliseconds. */
const LINE_MILLISECONDS = 5_000;
const PERCENT = 100;

export interface Progress {
  /** `done` of `total`, in any unit, each as it is known now. */
  update(done: number, total: number): void;
  /** Takes the bar away. */
  stop(): void;
}

export interface ProgressOptions {
  /** stderr by default: stdout is for results. */
  stream?: NodeJS.WritableStream & { isTTY?: boolean };
  /** Milliseconds; of the process's own clock by default. */
  now?: () => number;
}

/** Shows nothing before the first `update`. `label` says what is done, for instance "backing up". */
export function startProgress(label: string, options: ProgressOptions = {}): Progress {
  const { stream = process.stderr, now = () => performance.now() } = options;
  return stream.isTTY === true ? startBar(label, stream) : startLines(label, stream, now);
}

function startBar(label: string, stream: NodeJS.WritableStream): Progress {
  const bar = new SingleBar({
    format: `${label} [{bar}] {percentage}%`,
    stream,
    clearOnComplete: true,
    hideCursor: true,
  });
  let started = false;
  return {
    update(done, total) {
      if (!started) bar.start(PERCENT, 0);
      started = true;
      bar.update(percent(done, total));
    },
    stop() {
      if (started) bar.stop();
    },
  };
}

function startLines(label: string, stream: NodeJS.WritableStream, now: () => number): Progress {
  let next = now() + LINE_MILLISECONDS;
  return {
    update(done, total) {
      if (now() < next) return;
      next = now() + LINE_MILLISECONDS;
      stream.write(`${label}: ${percent(done, total)}%\n`);
    },
    stop() {},
  };
}

/** Rounded down: only what is done is at 100. */
function percent(done: number, total: number): number {
  return total > 0 ? Math.floor(Math.min(1, done / total) * PERCENT) : 0;
}
