/** On which day each token was last used: remembered as requests come, written down in the background; spec/http.md § Last use. */

import { describeError, type Logger } from "../logger.js";
import type { Directory, TokenUse } from "../storage/directory.js";

const DAY_MILLISECONDS = 86_400_000;
/** Uses that wait to be written. One that finds no room is noted again when its token is next looked up. */
const MAX_WAITING = 10_000;
/** Tokens per commit: other writes come in between. */
const STEP = 256;

/** The begin of the day in UTC, in milliseconds since the epoch. All that is kept of a use: no log of accesses comes of it. */
export function dayOf(now: number): number {
  return now - (now % DAY_MILLISECONDS);
}

export interface TokenUsesOptions {
  directory: Pick<Directory, "noteTokenUses">;
  logger: Logger;
  /** How often to write down what was noted, in milliseconds. */
  interval: number;
}

export class TokenUses {
  readonly #options: TokenUsesOptions;
  /** Days by token id. */
  #waiting = new Map<string, number>();
  #work: Promise<void> | null = null;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: TokenUsesOptions) {
    this.#options = options;
  }

  /** Notes that a token was used on a day. */
  note(id: string, day: number): void {
    if (this.#waiting.size < MAX_WAITING || this.#waiting.has(id)) this.#waiting.set(id, day);
  }

  start(): void {
    this.#timer ??= setInterval(() => void this.#flush(), this.#options.interval).unref();
  }

  /** Resolves when what was noted is written down, if that can be. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#work;
    await this.#flush();
  }

  /** Writes nothing when nothing was noted. */
  async #flush(): Promise<void> {
    if (this.#waiting.size === 0) return;
    await (this.#work ??= this.#write().finally(() => (this.#work = null)));
  }

  async #write(): Promise<void> {
    const uses: TokenUse[] = [...this.#waiting].map(([id, at]) => ({ id, at }));
    this.#waiting = new Map();
    try {
      for (let done = 0; done < uses.length; done += STEP) {
        await this.#options.directory.noteTokenUses(uses.slice(done, done + STEP));
      }
    } catch (error) {
      // What is newer has been noted anew.
      for (const { id, at } of uses) if (!this.#waiting.has(id)) this.note(id, at);
      this.#options.logger.warn({ error: describeError(error) }, "the last use of tokens could not be written down");
    }
  }
}
