/**
 * Run as a process of its own with a folder: when its standard input ends, because whoever started it says so or has died, it
 * kills all processes that work in the folder and removes it.
 */

import { rm } from "node:fs/promises";

import { killAllIn } from "./processes.ts";

const folder = process.argv[2];
if (folder === undefined) throw new Error("Name the folder.");
process.stdin.resume().once("close", () => {
  void killAllIn(folder).then(() => rm(folder, { recursive: true, force: true }));
});
