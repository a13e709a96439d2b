/** The right to do one kind of work in the background, which of several servers one has at a time; docs/postgresql.md § Several servers. */

import { randomUUID } from "node:crypto";

import type { LeaseRef, Leases } from "./storage/leases.js";

/** So long the work rests after a server was killed in it, in milliseconds. */
const LEASE_MILLISECONDS = 15_000;
/** How often a lease is renewed while it is held, in milliseconds. */
export const RENEW_MILLISECONDS = 5_000;
/** How soon to try again when another server has it, in milliseconds. */
export const BUSY_MILLISECONDS = 2_000;

/**
 * Whoever holds a lease may be stopped for longer than it lasts, and go on without noticing. So a lease makes that work is not done
 * twice, as a rule; that it does no harm when it is, each step sees to: it changes only what is as it was found. The step that this
 * does not do for depends on the lease in its own commit (KeyDirectory.replaceWraps).
 */
export class Lease {
  readonly #leases: Omit<Leases, "clearLeases">;
  readonly #name: string;
  readonly #makeOwner: () => string;
  /** Another one each time it is taken, so that no two terms are mistaken for each other. */
  #owner: string | null = null;
  #renewedAt = -Infinity;

  /** `owner`: for one that no two processes can be, so that it need not wait for the end of a term it was killed in. */
  constructor(leases: Omit<Leases, "clearLeases">, name: string, owner?: string) {
    this.#leases = leases;
    this.#name = name;
    this.#makeOwner = () => owner ?? randomUUID();
  }

  /** Takes it. False when another server has it. @throws {StorageError} */
  async take(): Promise<boolean> {
    const [owner, started] = [this.#makeOwner(), performance.now()];
    if (!(await this.#leases.acquireLease({ name: this.#name, owner }, LEASE_MILLISECONDS))) return false;
    this.#owner = owner;
    this.#renewedAt = started;
    return true;
  }

  /**
   * Whether it has been held without a break since it was taken; renews it when it is time. If not, others may have worked
   * meanwhile: what was found out under it has to be found out anew, under a new term. @throws {StorageError}
   */
  async holds(): Promise<boolean> {
    const [owner, started] = [this.#owner, performance.now()];
    if (owner === null) return false;
    if (started - this.#renewedAt < RENEW_MILLISECONDS) return true;
    if (await this.#leases.renewLease(this.ref, LEASE_MILLISECONDS)) {
      this.#renewedAt = started;
      return true;
    }
    this.#owner = null;
    return false;
  }

  /** The present term, for commits that depend on it; one that nobody holds when there is none. */
  get ref(): LeaseRef {
    return { name: this.#name, owner: this.#owner ?? "" };
  }

  /** Lets others have it at once. @throws {StorageError} */
  async release(): Promise<void> {
    const { ref } = this;
    this.#owner = null;
    if (ref.owner !== "") await this.#leases.releaseLease(ref);
  }
}
