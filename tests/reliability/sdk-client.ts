/** A client that makes histories through the SDK, as an application would: reads, writes over anything or a version, deletions. */

import { TacendaError, type Store } from "@tacenda/sdk";

import { anyOf, fetchBy, storeBy, type SupervisedServer } from "./deployment.ts";
import { tick, type History } from "./history.ts";
import type { HistoryClient } from "./http-client.ts";
import { DELETED, type RegisterOperation } from "./versioned-register.ts";

/** Milliseconds for a call. */
const TIMEOUT = 5_000;
/** After these nothing has happened, unless the error says that it may. */
const WITHOUT_EFFECT: readonly string[] = ["server_unreachable", "request_timeout", "overloaded", "conflict"];
const OF_UNKNOWN_OUTCOME: readonly string[] = ["server_fault", "outcome_unknown"];

export class SdkClient implements HistoryClient {
  readonly #store: Store;
  readonly #known = new WeakMap<History, number>();

  constructor(servers: readonly SupervisedServer[], secret: string) {
    this.#store = storeBy(
      fetchBy(() => anyOf(servers)),
      secret,
      { timeout: TIMEOUT },
    );
  }

  async act(history: History): Promise<void> {
    const dice = Math.random();
    if (dice < 0.45) await this.read(history);
    else if (dice < 0.65) await this.#set(history);
    else if (dice < 0.85) await this.#set(history, this.#known.get(history) ?? 0);
    else await this.#delete(history);
  }

  async read(history: History): Promise<boolean> {
    const begin = tick();
    try {
      const entry = await this.#store.getEntry(history.key);
      const { version, value } = entry ?? { version: 0, value: "" };
      history.note(begin, { kind: "read", seen: { version, content: typeof value === "string" ? value : DELETED } });
      this.#known.set(history, version);
      return true;
    } catch (error) {
      if (!is(error, WITHOUT_EFFECT) && !is(error, OF_UNKNOWN_OUTCOME)) history.accuse(`reading: ${String(error)}`);
      return false;
    }
  }

  async #set(history: History, over?: number): Promise<void> {
    const content = crypto.randomUUID();
    const condition = over === undefined ? {} : { over };
    const begin = tick();
    try {
      const { version } = await this.#store.setValue(history.key, content, { ifVersion: over });
      history.note(begin, { kind: "write", content, version, ...condition });
      this.#known.set(history, version);
    } catch (error) {
      if (TacendaError.is(error, "conflict") && over !== undefined) {
        history.note(begin, { kind: "conflict", over, seen: { version: error.currentVersion } });
        this.#known.set(history, error.currentVersion);
      } else this.#noteFailure(history, begin, error, { kind: "write", content, ...condition });
    }
  }

  async #delete(history: History): Promise<void> {
    const begin = tick();
    try {
      const deleted = await this.#store.deleteValue(history.key);
      if (deleted === null) history.note(begin, { kind: "nothing to delete" });
      else history.note(begin, { kind: "write", content: DELETED, version: deleted.version });
    } catch (error) {
      this.#noteFailure(history, begin, error, { kind: "write", content: DELETED });
    }
  }

  #noteFailure(history: History, begin: number, error: unknown, operation: RegisterOperation): void {
    const mayHaveHappened = error instanceof Error && "mayHaveHappened" in error && error.mayHaveHappened === true;
    if (mayHaveHappened || is(error, OF_UNKNOWN_OUTCOME)) history.noteOpen(begin, operation);
    else if (!is(error, WITHOUT_EFFECT)) history.accuse(`writing: ${String(error)}`);
  }
}

function is(error: unknown, codes: readonly string[]): boolean {
  return TacendaError.is(error) && codes.includes(error.code);
}
