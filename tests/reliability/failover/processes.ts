/** Processes by the folder they work in, so that all of a node can be found: whoever started them, and whatever they call themselves. */

import { readdirSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** Ids of the processes whose working folder is `folder` or below it. Linux only. */
export function processesIn(folder: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^[0-9]+$/.test(name))
    .map(Number)
    .filter((id) => id !== process.pid && isIn(folder, id));
}

function isIn(folder: string, id: number): boolean {
  try {
    const place = readlinkSync(`/proc/${id}/cwd`);
    return place === folder || place.startsWith(`${folder}/`);
  } catch {
    // It has ended, or is another user's.
    return false;
  }
}

export function signal(ids: readonly number[], name: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void {
  for (const id of ids) {
    try {
      process.kill(id, name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}

/** Kills what works in `folder`, and what that starts meanwhile, until nothing does. */
export async function killAllIn(folder: string): Promise<void> {
  for (let ids = processesIn(folder); ids.length > 0; ids = processesIn(folder)) {
    signal(ids, "SIGKILL");
    await sleep(20);
  }
}
