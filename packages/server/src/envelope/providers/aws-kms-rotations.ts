/** Master-key versions where AWS KMS has none: one more than the rotations; spec/envelope.md § AWS KMS. */

import { setTimeout as pause } from "node:timers/promises";

import { KeyProviderError, type MasterKeyVersion } from "../key-provider.js";
import { within, type AwsKmsCalls } from "./aws-kms-calls.js";

export interface RotationTimes {
  /** Milliseconds for which a version is taken to be the current one. */
  kept: number;
  /** Milliseconds for looking it up. */
  total: number;
  /** Milliseconds for which a rotation is waited for. */
  wait: number;
}

const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 2_000;

export class Rotations {
  readonly #calls: AwsKmsCalls;
  readonly #arn: string;
  readonly #times: RotationTimes;
  /**
   * Never goes back: AWS follows "an eventual consistency model", so that one of its servers may not know yet of a rotation that
   * another one told.
   */
  #current = 1;
  #until = -Infinity;
  /** Shared by all who ask at once. */
  #asking: Promise<number> | null = null;

  constructor(calls: AwsKmsCalls, arn: string, times: RotationTimes) {
    this.#calls = calls;
    this.#arn = arn;
    this.#times = times;
  }

  /** @throws {KeyProviderError} */
  current(): Promise<number> {
    if (performance.now() < this.#until) return Promise.resolve(this.#current);
    this.#asking ??= within(
      this.#times.total,
      () => tooLate(this.#arn),
      (signal) => this.#look(signal),
    ).finally(() => (this.#asking = null));
    return this.#asking;
  }

  /** @throws {KeyProviderError} */
  async versions(): Promise<MasterKeyVersion[]> {
    return within(
      this.#times.total,
      () => tooLate(this.#arn),
      async (signal) => {
        const [creation, rotations] = await Promise.all([this.#calls.creation(signal), this.#calls.rotations(signal)]);
        const dates = [creation, ...rotations];
        this.#learn(dates.length);
        return Array.from({ length: this.#current }, (_, index) => ({
          version: index + 1,
          createdAt: dates[index] ?? null,
          state: "enabled" as const,
        }));
      },
    );
  }

  /**
   * Starts a rotation and waits until it is done. One that is under way already is waited for instead, so that trying again
   * after the time ran out does not spend another.
   *
   * @throws {KeyProviderError} `unavailable` when it is not done yet.
   */
  async rotate(): Promise<number> {
    let isUnderWay = false;
    return within(
      this.#times.wait,
      () => (isUnderWay ? stillUnderWay(this.#arn) : tooLate(this.#arn)),
      async (signal) => {
        const before = await this.#look(signal);
        isUnderWay = await this.#calls.isRotating(signal);
        if (!isUnderWay) await this.#calls.rotate(signal);
        isUnderWay = true;
        for (let time = FIRST_PAUSE; ; time = Math.min(time * 2, LONGEST_PAUSE)) {
          await pause(time, undefined, { signal });
          const now = await this.#look(signal).catch(unlessRefused);
          if (now !== null && now > before) return now;
        }
      },
    );
  }

  async #look(signal: AbortSignal): Promise<number> {
    this.#learn(1 + (await this.#calls.rotations(signal)).length);
    return this.#current;
  }

  #learn(version: number): void {
    this.#current = Math.max(this.#current, version);
    this.#until = performance.now() + this.#times.kept;
  }
}

/** What a key that did not answer in time is told as. */
export function tooLate(arn: string): KeyProviderError {
  return new KeyProviderError(
    "unavailable",
    `The AWS KMS key ${arn} did not answer in time: check the network, the endpoint and where credentials come from.`,
  );
}

function stillUnderWay(arn: string): KeyProviderError {
  return new KeyProviderError(
    "unavailable",
    `The rotation of the AWS KMS key ${arn} is under way, but AWS has not finished it yet. Look at ` +
      "`tacenda-server keys status` in some minutes: the new version shows there when it is done.",
  );
}

/** A passing failure, while something else is waited for, is no reason to give up. */
function unlessRefused(error: unknown): null {
  if (error instanceof KeyProviderError && error.fault === "unavailable") return null;
  throw error;
}
