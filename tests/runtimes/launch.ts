/** Processes of runtimes: started with an environment of their own, watched, and ended with all their children. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

export interface LaunchOptions {
  folder: string;
  environment: Record<string, string>;
  /** Whether the process should end, with code 0, when its work is done: nothing of the SDK's may keep it alive. */
  endsByItself: boolean;
}

/** Milliseconds that a process may take to end by itself, or to print what it is waited for. */
const LIMIT = 10_000;

export class Launched {
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  readonly #endsByItself: boolean;
  #output = "";

  constructor(child: ChildProcess, endsByItself: boolean) {
    this.#child = child;
    this.#endsByItself = endsByItself;
    this.#closed = once(child, "close");
    // Whoever waits hears of a program that cannot be started; nobody may.
    this.#closed.catch(() => undefined);
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8").on("data", (part: string) => (this.#output += part));
    }
  }

  /** Rejects when the process is gone, with what it printed. */
  async gone(): Promise<never> {
    await this.#closed;
    throw new Error(`The runtime ended (${this.#child.exitCode ?? this.#child.signalCode}): ${this.#output}`);
  }

  /** The first group of a pattern, once the process has printed it. */
  async outputMatching(expected: RegExp): Promise<string> {
    const deadline = AbortSignal.timeout(LIMIT);
    for (;;) {
      const found = expected.exec(this.#output)?.[1];
      if (found !== undefined) return found;
      if (deadline.aborted || this.#child.exitCode !== null) throw new Error(`Not as expected: ${this.#output}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Waits for the end of a process that ends by itself. @throws {Error} when it does not, or not well. */
  async finish(): Promise<void> {
    if (!this.#endsByItself) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`Still running ${LIMIT} ms after its work was done.`)), LIMIT);
    });
    await Promise.race([this.#closed, late]).finally(() => clearTimeout(timer));
    if (this.#child.exitCode !== 0) throw new Error(`Ended with ${this.#child.exitCode}: ${this.#output}`);
  }

  /** Ends the process and its children, if they still run. */
  async kill(): Promise<void> {
    if (this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, "SIGKILL");
    } catch {
      // The whole group has ended already.
    }
    await this.#closed.catch(() => undefined);
  }
}

/** Starts a command as the leader of a process group. */
export function launch(command: readonly string[], { folder, environment, endsByItself }: LaunchOptions): Launched {
  const [program = "", ...args] = command;
  const child = spawn(program, args, {
    cwd: folder,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env.PATH, HOME: folder, ...environment },
  });
  return new Launched(child, endsByItself);
}
