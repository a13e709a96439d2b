/**
 * What the server takes on at once, in requests and in bytes, so that no load makes its memory grow; spec/http.md § Overload.
 * Requests are counted while they are worked on, which the database bounds, and bytes while clients are waited for: so slow
 * clients are not in the way of the others.
 */

import type { ServerResponse } from "node:http";

import { Gate, type GateOptions, type Leave } from "./gate.js";
import { HttpError } from "./http-error.js";
import type { Reply } from "./reply.js";
import type { Route } from "./routes.js";

export const DEFAULT_MAX_REQUESTS = 64;
export const DEFAULT_BODY_MEMORY = 134_217_728;
/** A batch may be as much work and memory as so many other requests, or more. */
const BATCH_REQUESTS = 8;
/** Up to so many bytes, bodies and answers are taken as they come: no number of connections makes them many. */
const SMALL_BYTES = 65_536;
/** How often a body is in memory at once: as it came and sealed; of JSON also as text, parsed and decoded. */
const COPIES = { bytes: 2, json: 4 } as const;

export interface AdmissionOptions extends GateOptions {
  /** Requests worked on at once: so many reads, so many writes, so many of administration, and an eighth as many batches. */
  maxRequests?: number | undefined;
  /** Bytes of memory for large bodies, and as many for large answers. */
  bodyMemory?: number | undefined;
}

/** Who works at the cost of whom: one kind of requests does not wait for another. */
type Lane = "read" | "write" | "administration" | "batch";

export class Admission {
  readonly #lanes: Readonly<Record<Lane, Gate>>;
  readonly #bodies: Gate;
  readonly #answers: Gate;

  constructor({
    maxRequests = DEFAULT_MAX_REQUESTS,
    bodyMemory = DEFAULT_BODY_MEMORY,
    ...gate
  }: AdmissionOptions = {}) {
    this.#lanes = {
      read: new Gate(maxRequests, gate),
      write: new Gate(maxRequests, gate),
      administration: new Gate(maxRequests, gate),
      batch: new Gate(Math.max(1, Math.floor(maxRequests / BATCH_REQUESTS)), gate),
    };
    this.#bodies = new Gate(bodyMemory, gate);
    this.#answers = new Gate(bodyMemory, gate);
  }

  /** Requests worked on. */
  get working(): number {
    return Object.values(this.#lanes).reduce((sum, { inside }) => sum + inside, 0);
  }

  /** Requests that wait to be worked on, or for room for their bodies. */
  get waiting(): number {
    return [...Object.values(this.#lanes), this.#bodies].reduce((sum, { waiting }) => sum + waiting, 0);
  }

  /** Bytes of memory counted for large bodies and answers. */
  get bytes(): number {
    return this.#bodies.inside + this.#answers.inside;
  }

  /** Waits, if it must, until the request can be worked on. Public routes never do. @throws {HttpError} `overloaded` */
  begin(route: Route): Leave | Promise<Leave> {
    const lane = laneOf(route);
    return lane === null ? () => undefined : this.#lanes[lane].enter();
  }

  /** Room for the body of one request, of which nothing has been read; null when it has none. */
  holdBody({ body }: Route): BodyHold | null {
    return body === "none" ? null : new BodyHold(this.#bodies, COPIES[body === "json" ? "json" : "bytes"]);
  }

  /**
   * Counts a large answer until all of it was given to the system.
   * @throws {HttpError} `overloaded` when there is no room: clients are slow to take what they asked for.
   */
  holdAnswer({ body }: Reply, outgoing: ServerResponse | undefined): void {
    if (body == null || body.length <= SMALL_BYTES || outgoing === undefined || outgoing.destroyed) return;
    const leave = this.#answers.tryEnter(body.length);
    if (leave === null) throw new HttpError("overloaded");
    outgoing.once("close", leave);
  }
}

/** What one request has reserved for its body. */
export class BodyHold {
  readonly #gate: Gate;
  readonly #copies: number;
  #leave: Leave | null = null;
  #isOver = false;

  constructor(gate: Gate, copies: number) {
    this.#gate = gate;
    this.#copies = copies;
  }

  /** Whether a body needs no room reserved, as far as it has come. */
  static isSmall(bytes: number): boolean {
    return bytes <= SMALL_BYTES;
  }

  /** Waits for room for a body of `bytes`, once. @throws {HttpError} `overloaded` */
  async reserve(bytes: number): Promise<void> {
    const leave = await this.#gate.enter(bytes * this.#copies);
    // The client may have gone meanwhile.
    if (this.#isOver) leave();
    else this.#leave = leave;
  }

  /** Nothing of the body is needed any more. */
  release(): void {
    this.#isOver = true;
    this.#leave?.();
  }
}

function laneOf({ method, path, permission }: Route): Lane | null {
  if (permission === "public") return null;
  if (permission === "root" || permission === "manage") return "administration";
  if (path.endsWith("/batch")) return "batch";
  return method === "GET" ? "read" : "write";
}
