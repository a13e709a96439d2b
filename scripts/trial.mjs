/** What checks that build and boot whole systems have in common. */
import { spawnSync } from "node:child_process";

/** @throws {Error} when this is not root on Linux, or a command is missing that an installed package would bring. */
export function needRoot(commands) {
  if (process.platform !== "linux" || process.getuid?.() !== 0) fail("It needs root on Linux.");
  const missing = Object.keys(commands).filter((command) => spawnSync("which", [command]).status !== 0);
  if (missing.length === 0) return;
  fail(`Install: apt-get install --no-install-recommends ${missing.map((command) => commands[command]).join(" ")}`);
}

/** Says whether something holds, and ends the check when not. */
export function check(holds, what) {
  if (!holds) fail(`It does not hold that ${what}.`);
  console.log(`✓ ${what}`);
}

/** Runs a command, with its output for the person at the terminal. */
export function run(command, args) {
  console.log(`${command} ${args.join(" ")}`);
  if (spawnSync(command, args, { stdio: "inherit" }).status !== 0) fail(`${command} failed.`);
}

/** What a command writes to its standard output. */
export function output(command, args) {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) fail(`${command} ${args.join(" ")} failed: ${stderr}`);
  return stdout.trim();
}

/** Thrown, so that what was begun is cleaned up. */
export function fail(message) {
  throw new Error(message);
}
