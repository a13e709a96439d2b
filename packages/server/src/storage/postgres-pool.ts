/**
 * Connections to PostgreSQL that are opened when they are needed, up to a limit, and used one after the other. Our own because
 * pg-pool takes one host, and after a failover the next connection has to look for the new primary among all of them.
 */

import { openSession, type Session, type SessionOptions } from "./postgres-session.js";
import type { PostgresHost } from "./postgres-url.js";
import { StorageBusyError, StorageError } from "./record-store.js";

/** How long to wait for a connection that others use, in milliseconds. */
const WAIT_TIMEOUT = 5_000;
/** How many may wait for one at once. Requests are let in by smaller numbers: this is for whatever else asks. */
const MAX_WAITING = 1_000;

interface Waiter {
  resolve: () => void;
}

export class PostgresPool {
  readonly #options: SessionOptions;
  readonly #limit: number;
  /** The host that the last connection was made to: of several, the primary. */
  #primary: PostgresHost | undefined;
  #idle: Session[] = [];
  readonly #all = new Set<Session>();
  /** Connections that are open or being opened. */
  #count = 0;
  #waiting: Waiter[] = [];
  #closed = false;

  constructor(options: SessionOptions, limit: number) {
    this.#options = options;
    this.#limit = limit;
  }

  /** @throws {StorageError} */
  async acquire(): Promise<Session> {
    for (;;) {
      if (this.#closed) throw new StorageError("The database is closed.");
      const idle = this.#idle.pop();
      if (idle !== undefined && !idle.isBroken) return idle;
      if (idle !== undefined) void this.#drop(idle);
      else if (this.#count < this.#limit) return await this.#open();
      else await this.#turn();
    }
  }

  release(session: Session): void {
    if (session.isBroken || this.#closed || session.host !== this.#primary) void this.#drop(session);
    else this.#idle.push(session);
    this.#next();
  }

  /** Closes the connections that are idle: their server takes no writes any more, or does not answer. */
  forgetIdle(): void {
    for (const session of this.#idle.splice(0)) void this.#drop(session);
  }

  /** Closes those that are idle, and breaks the others off. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { resolve } of this.#waiting.splice(0)) resolve();
    const idle = new Set(this.#idle.splice(0));
    await Promise.all([...this.#all].map((one) => this.#drop(one, idle.has(one) ? "politely" : "at once")));
  }

  async #open(): Promise<Session> {
    this.#count++;
    try {
      const session = await openSession(this.#options, this.#primary);
      this.#all.add(session);
      // Others are of a former primary. It may live on, and not know yet that it was replaced.
      if (session.host !== this.#primary) this.forgetIdle();
      this.#primary = session.host;
      return session;
    } catch (error) {
      this.#count--;
      this.#next();
      throw error;
    }
  }

  async #drop(session: Session, how: "at once" | "politely" = "politely"): Promise<void> {
    if (!this.#all.delete(session)) return;
    this.#count--;
    session.isBroken = true;
    await session.end(how);
  }

  #next(): void {
    this.#waiting.shift()?.resolve();
  }

  async #turn(): Promise<void> {
    if (this.#waiting.length >= MAX_WAITING) throw inUse();
    await new Promise<void>((resolve, reject) => {
      const waiter: Waiter = {
        resolve() {
          clearTimeout(timer);
          resolve();
        },
      };
      const timer = setTimeout(() => {
        this.#waiting = this.#waiting.filter((one) => one !== waiter);
        reject(inUse());
      }, WAIT_TIMEOUT);
      this.#waiting.push(waiter);
    });
  }
}

function inUse(): StorageBusyError {
  return new StorageBusyError("All connections to the database are in use. Try again.");
}
