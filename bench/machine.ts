/** Where the figures were measured. */

import { statfsSync } from "node:fs";
import { arch, availableParallelism, cpus, loadavg, platform, tmpdir } from "node:os";

export interface Machine {
  cpu: string;
  cores: number;
  system: string;
  node: string;
  /** Processes that wanted to run in the minute before: well below the number of cores, or the figures are noise. */
  loadBefore: number;
  /** Whether the servers' databases lie on a disk. On a file system in memory, durable writes cost nothing. */
  durable: boolean;
}

/** What Linux's statfs calls a tmpfs. */
const TMPFS = 0x01021994;

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    system: `${platform()} ${arch()}`,
    node: process.version,
    loadBefore: loadavg()[0] ?? 0,
    durable: statfsSync(tmpdir()).type !== TMPFS,
  };
}
