/** What a process has of the system, from /proc: memory and open files. Linux only, as the rest of this suite. */

import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const KIBIBYTE = 1_024;

/** The most memory that the process has had since the last `forgetPeak`, in bytes. */
export function peakMemory(pid: number): number {
  return statusOf(pid, "VmHWM");
}

/** The memory that it has now, in bytes. */
export function memory(pid: number): number {
  return statusOf(pid, "VmRSS");
}

export function forgetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, "5");
}

export function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

function statusOf(pid: number, name: string): number {
  const [, kibibytes] =
    new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kibibytes) * KIBIBYTE;
}
