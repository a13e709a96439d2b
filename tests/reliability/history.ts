/** The history of one key: what clients called and what they were told, and what is wrong with that. */

import { KEY_HASH_BYTES } from "@tacenda/protocol";

import { judgeHistory, type Call } from "./linearizability.ts";
import { VERSIONED_REGISTER, type RegisterOperation } from "./versioned-register.ts";

let ticks = 0;

/** The clock of all histories: it only orders events, and no two have the same time. */
export function tick(): number {
  return ++ticks;
}

interface Fault {
  kind: "loss" | "violation";
  what: string;
}

export class History {
  /** For clients that know no other key. */
  readonly keyHash: Uint8Array = crypto.getRandomValues(new Uint8Array(KEY_HASH_BYTES));
  readonly key = `key-${crypto.randomUUID()}`;
  readonly #calls: Call<RegisterOperation>[] = [];
  readonly #faults: Fault[] = [];

  /** Calls that were answered. */
  get answered(): number {
    return this.#calls.length - this.open;
  }

  /** Calls of unknown outcome. */
  get open(): number {
    return this.#calls.filter(({ end }) => end === Infinity).length;
  }

  /** A call that was answered just now. */
  note(begin: number, operation: RegisterOperation): void {
    this.#calls.push({ begin, end: tick(), operation });
  }

  /** A write of which nobody knows whether it happened, or will. */
  noteOpen(begin: number, operation: RegisterOperation): void {
    this.#calls.push({ begin, end: Infinity, operation });
  }

  /** An answer that is wrong by itself. */
  accuse(what: string): void {
    this.#faults.push({ kind: "violation", what });
  }

  /** What is wrong, the last call having been a read when all was over. */
  judge(): Fault[] {
    const faults = [...this.#faults];
    const last = this.#calls.at(-1)?.operation;
    const promised = Math.max(0, ...this.#calls.map(({ operation }) => acknowledgedBy(operation)));
    if (last?.kind === "read" && last.seen.version < promised) {
      faults.push({ kind: "loss", what: `version ${promised} was acknowledged, and ${last.seen.version} is the last` });
      return faults;
    }
    const verdict = judgeHistory(VERSIONED_REGISTER, this.#calls);
    if (verdict.linearizable) return faults;
    const stuck = verdict.stuck.map((operation) => JSON.stringify(operation)).join(", ");
    faults.push({
      kind: "violation",
      what: `after ${verdict.order.length} calls none of ${stuck} fits:\n${this.#text()}`,
    });
    return faults;
  }

  /** All of it, to be read by who has to find out. */
  #text(): string {
    const calls = [...this.#calls].sort((a, b) => a.begin - b.begin);
    return calls.map(({ begin, end, operation }) => `${begin}–${end} ${JSON.stringify(operation)}`).join("\n");
  }
}

function acknowledgedBy(operation: RegisterOperation): number {
  return operation.kind === "write" ? (operation.version ?? 0) : 0;
}
