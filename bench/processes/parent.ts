/** The parent's side of the talk between processes. */

import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

import type { Handlers, Question, Reply } from "./child.ts";

/** A running child that answers what `H` names. */
export interface Child<H extends Handlers> {
  /** @throws {Error} what the child's handler threw, or that the child ended. One question at a time. */
  ask<N extends keyof H & string>(name: N, payload: Parameters<H[N]>[0]): ReturnType<H[N]>;
  /** Ends the child, and resolves when it has ended. */
  stop(): Promise<void>;
}

/** Starts a file of this folder in a process of its own. */
export function startProcess<H extends Handlers>(file: string): Child<H> {
  const child = fork(join(import.meta.dirname, file), { serialization: "advanced", stdio: ["ignore", 2, 2, "ipc"] });
  const exited = once(child, "exit");
  const ended = exited.then((): never => {
    throw new Error(`The process ${file} ended before it had answered.`);
  });
  // Whoever asks meets it; when nobody does, a child's end is no failure.
  ended.catch(() => undefined);

  async function ask(name: string, payload: unknown): Promise<unknown> {
    const answered = once(child, "message");
    child.send({ name, payload } satisfies Question);
    const [reply] = (await Promise.race([answered, ended])) as [Reply];
    if ("failed" in reply) throw new Error(`The process ${file} failed: ${reply.failed}`);
    return reply.result;
  }

  return {
    ask: ask as Child<H>["ask"],
    async stop() {
      if (child.connected) child.disconnect();
      await exited;
    },
  };
}
