/** Lets in so much at once. The rest waits in line for a moment, and is then told to come back; spec/http.md § Overload. */

import { HttpError } from "./http-error.js";

/** How long anything waits to be let in, in milliseconds. */
const PATIENCE = 2_000;
/** How many may wait at once. A server has fewer connections than that, as a rule, and each waits once. */
const MAX_WAITING = 1_000;

/** Gives back what was taken. Calling it again does nothing. */
export type Leave = () => void;

interface Waiter {
  weight: number;
  admit(leave: Leave): void;
}

export interface GateOptions {
  /** Milliseconds that anything waits at most. */
  patience?: number;
  /** How many may wait. */
  maxWaiting?: number;
}

export class Gate {
  readonly #capacity: number;
  readonly #patience: number;
  readonly #maxWaiting: number;
  #inside = 0;
  /** In the order in which they came. */
  readonly #waiting = new Set<Waiter>();

  /** `capacity`: the weight that may be inside at once. */
  constructor(capacity: number, { patience = PATIENCE, maxWaiting = MAX_WAITING }: GateOptions = {}) {
    this.#capacity = capacity;
    this.#patience = patience;
    this.#maxWaiting = maxWaiting;
  }

  /** The weight that is inside. */
  get inside(): number {
    return this.#inside;
  }

  /** How many wait. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Lets in `weight` if there is room and nobody waits. What weighs more than all there is room for counts as that. */
  tryEnter(weight = 1): Leave | null {
    const counted = Math.min(weight, this.#capacity);
    return this.#waiting.size === 0 && this.#hasRoom(counted) ? this.#admit(counted) : null;
  }

  /**
   * Lets in at once, or waits for its turn.
   * @throws {HttpError} `overloaded`, later, when its turn does not come soon, or too many wait already.
   */
  enter(weight = 1): Leave | Promise<Leave> {
    return this.tryEnter(weight) ?? this.#wait(Math.min(weight, this.#capacity));
  }

  #wait(weight: number): Promise<Leave> {
    if (this.#waiting.size >= this.#maxWaiting) return Promise.reject(new HttpError("overloaded"));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(waiter);
        reject(new HttpError("overloaded"));
        // The one behind may be lighter.
        this.#next();
      }, this.#patience);
      const waiter: Waiter = {
        weight,
        admit(leave) {
          clearTimeout(timer);
          resolve(leave);
        },
      };
      this.#waiting.add(waiter);
    });
  }

  #hasRoom(weight: number): boolean {
    return this.#inside + weight <= this.#capacity;
  }

  #admit(weight: number): Leave {
    this.#inside += weight;
    let hasLeft = false;
    return () => {
      if (hasLeft) return;
      hasLeft = true;
      this.#inside -= weight;
      this.#next();
    };
  }

  /** A light one does not overtake a heavy one, which else would never have its turn. */
  #next(): void {
    for (const waiter of this.#waiting) {
      if (!this.#hasRoom(waiter.weight)) return;
      this.#waiting.delete(waiter);
      waiter.admit(this.#admit(waiter.weight));
    }
  }
}
