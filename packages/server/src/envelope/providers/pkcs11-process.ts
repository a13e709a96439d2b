/** Starts the process that talks to a token, asks it one thing at a time, and replaces it when it fails. */

import { fork, type ChildProcess } from "node:child_process";
import { extname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { KeyProviderError } from "../key-provider.js";
import type { Answer, ChildFault, Start, TokenCall, TokenResult } from "./pkcs11-child.js";

export interface TokenProcessOptions {
  /** What a fresh process is told; asked for each time, because a PIN may have changed. */
  start(): Promise<Start["input"]>;
  /** Milliseconds that a call may wait for its turn, and again that it may take. */
  limit: number;
  /** Milliseconds after a failure for which nothing is tried. */
  pause: number;
}

/** Beside this file, in the sources as in what is built. */
const CHILD = fileURLToPath(new URL(`./pkcs11-child${extname(import.meta.url)}`, import.meta.url));

const CLOSE_LIMIT = 2_000;

/** Why the process did not do what it was asked. `unready`: there is no PIN to start it with. `ended`: it crashed. `late`: it did not answer. */
export class ChildFailure extends Error {
  override name = "ChildFailure";
  readonly fault: ChildFault | "unready" | "ended" | "late";
  constructor(fault: ChildFailure["fault"], message: string) {
    super(message);
    this.fault = fault;
  }
}

export class TokenProcess {
  readonly #options: TokenProcessOptions;
  #child: ChildProcess | null = null;
  /** What the process logs in with. */
  #pin = "";
  /** Calls come one after the other: a session does one thing at a time, and calls of tokens block. */
  #last: Promise<unknown> = Promise.resolve();
  #failure: { message: string; until: number } | null = null;
  /** A PIN that the token refused: it is not tried again. */
  #refusedPin: { pin: string; message: string } | null = null;

  constructor(options: TokenProcessOptions) {
    this.#options = options;
  }

  /**
   * Starts the process, which asks the token nothing yet.
   * @throws {ChildFailure} `package` or `module`, when these do not load.
   */
  async start(): Promise<void> {
    this.#child = await this.#spawn(performance.now() + this.#options.limit);
  }

  /** @throws {KeyProviderError} */
  call<Call extends TokenCall>(request: Call): Promise<TokenResult<Call>> {
    const asked = performance.now();
    const work = this.#last.then(() => {
      if (performance.now() - asked > this.#options.limit) {
        throw new KeyProviderError("unavailable", "The token did not answer in time what it was asked before.");
      }
      return this.#try(request);
    });
    this.#last = work.catch(() => undefined);
    return work as Promise<TokenResult<Call>>;
  }

  async close(): Promise<void> {
    await this.#last;
    const child = this.#child;
    this.#child = null;
    if (!child?.connected) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    // Nothing else may be left that keeps the caller alive until then: a command at its end, or a refused start.
    child.ref();
    child.disconnect();
    await Promise.race([ended, sleep(CLOSE_LIMIT, undefined, { ref: false })]);
    child.kill("SIGKILL");
  }

  /** What was lost is found again once per call, in a fresh process; whatever a library had got into is gone with the old one. */
  async #try(request: TokenCall): Promise<unknown> {
    if (this.#failure !== null && performance.now() < this.#failure.until) throw unavailable(this.#failure.message);
    const deadline = performance.now() + this.#options.limit;
    for (;;) {
      const found = this.#child;
      try {
        this.#child ??= await this.#spawn(deadline);
        const output = await ask(this.#child, request, deadline);
        this.#failure = null;
        return output;
      } catch (error) {
        if (!(error instanceof ChildFailure)) throw error;
        if (error.fault === "refused") throw new KeyProviderError("refused", error.message);
        if (error.fault === "pin") this.#refusedPin = { pin: this.#pin, message: error.message };
        this.#child?.kill("SIGKILL");
        this.#child = null;
        // A process that ended in a rotation may have made the key.
        const mayRepeat = error.fault === "lost" || (error.fault === "ended" && request.call !== "rotate");
        if (found !== null && mayRepeat) continue;
        this.#failure = { message: error.message, until: performance.now() + this.#options.pause };
        throw unavailable(error.message, error);
      }
    }
  }

  async #spawn(deadline: number): Promise<ChildProcess> {
    let input;
    try {
      input = await this.#options.start();
    } catch (error) {
      throw new ChildFailure("unready", error instanceof Error ? error.message : "The PIN cannot be read.");
    }
    if (this.#refusedPin?.pin === input.pin) throw new ChildFailure("pin", this.#refusedPin.message);
    this.#pin = input.pin;
    const child = fork(CHILD, [], {
      env: environment(),
      execArgv: [],
      serialization: "advanced",
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    // It must not keep alive who has forgotten to close it.
    child.unref();
    child.channel?.unref();
    child.on("error", () => undefined);
    try {
      await ask(child, { call: "start", input }, deadline);
    } catch (error) {
      child.kill("SIGKILL");
      throw error;
    }
    return child;
  }
}

const OTHERS = new Set([
  ...["NODE_OPTIONS", "VAULT_TOKEN", "BAO_TOKEN"],
  ...["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"],
]);

/** What the process says to one request. Only one is under way at a time. */
async function ask(child: ChildProcess, request: Start | TokenCall, deadline: number): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const ended = () => reject(new ChildFailure("ended", "The process that talks to the token ended: see its messages."));
  const timer = setTimeout(
    () => reject(new ChildFailure("late", "The token did not answer in time: see that it is there and reachable.")),
    Math.max(0, deadline - performance.now()),
  );
  child.once("message", resolve).once("exit", ended).once("error", ended);
  child.send(request, (error) => {
    if (error) ended();
  });
  try {
    const answer = await promise;
    if ("fault" in answer) throw new ChildFailure(answer.fault, answer.message);
    return answer.output;
  } finally {
    clearTimeout(timer);
    child.off("message", resolve).off("exit", ended).off("error", ended);
  }
}

/** What the makers' libraries are configured by, and nothing of ours, nor what opens other key providers. */
function environment(): NodeJS.ProcessEnv {
  const isOurs = (name: string) => name.startsWith("TACENDA_") || OTHERS.has(name);
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !isOurs(name)));
}

function unavailable(message: string, cause?: unknown): KeyProviderError {
  return new KeyProviderError("unavailable", message, { cause });
}
