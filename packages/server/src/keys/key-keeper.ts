/**
 * The work on keys in the background: rotations by schedule, wraps that are not under the current master key,
 * re-encryptions. Of several servers on a database one does it at a time. spec/envelope.md § Rotating master keys.
 */

import { KeyProviderError } from "../envelope/key-provider.js";
import { BUSY_MILLISECONDS, Lease, RENEW_MILLISECONDS } from "../lease.js";
import { describeError, type Logger } from "../logger.js";
import type { Reencryption } from "../storage/key-directory.js";
import { StorageError } from "../storage/record-store.js";
import { reencrypt, type ReencryptServices } from "./reencrypt.js";
import { rewrapOutdated, type RewrapServices } from "./rewrap.js";
import { isRotationDue, rotateDueDataKeys, rotateDueMaster, type RotationPeriods } from "./schedule.js";

const LEASE = "keys";
/** How soon to try again what a provider's or the database's failure has stopped, or another server was busy with. */
const RETRY_MILLISECONDS = BUSY_MILLISECONDS;
/** How often the log tells how far the work has come, in milliseconds. */
const TELL_MILLISECONDS = RENEW_MILLISECONDS;

export interface KeyKeeperOptions extends RewrapServices, ReencryptServices {
  logger: Logger;
  periods: RotationPeriods;
  /** How often to look for work that nobody has announced, in milliseconds. */
  interval: number;
  /** Told how many wraps are outdated and how many re-encryptions are under way, whenever that was found out. */
  onProgress?: ((outdatedWraps: number, reencryptions: number) => void) | undefined;
}

export class KeyKeeper {
  readonly #options: KeyKeeperOptions;
  readonly #lease: Lease;
  #stopped = false;
  #wanted = false;
  #work: Promise<void> | null = null;
  #timer: NodeJS.Timeout | undefined;
  #toldAt = -Infinity;
  #failure: string | null = null;

  constructor(options: KeyKeeperOptions) {
    this.#options = options;
    this.#lease = new Lease(options.maintenance, LEASE);
  }

  /** What stopped the work the last time, in words for an administrator; null when nothing did. */
  get failure(): string | null {
    return this.#failure;
  }

  /** Looks for work now, or has the look under way begin again; from the first call on it looks at every interval. */
  wake(): void {
    if (this.#stopped) return;
    this.#wanted = true;
    this.#work ??= this.#run().finally(() => (this.#work = null));
  }

  /** Stops after the step under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#work;
  }

  async #run(): Promise<void> {
    clearTimeout(this.#timer);
    let rest = this.#options.interval;
    while (this.#wanted && !this.#stopped) {
      this.#wanted = false;
      const failures: unknown[] = [];
      const isMine = await this.#look(failures).catch((error: unknown) => failures.push(error) > 0);
      this.#tellFailures(failures);
      rest = isMine && failures.length === 0 ? this.#options.interval : RETRY_MILLISECONDS;
    }
    if (!this.#stopped) this.#timer = setTimeout(() => this.wake(), Math.min(rest, this.#options.interval)).unref();
  }

  /** Does what there is to do, each part whatever became of the others. False when another server is busy with it, or may be. */
  async #look(failures: unknown[]): Promise<boolean> {
    if (!(await this.#hasWork())) return true;
    if (!(await this.#lease.take())) return false;
    const attempt = (work: Promise<void>) => work.catch((error: unknown) => void failures.push(error));
    try {
      await attempt(this.#rotateDue());
      await attempt(this.#rewrap(failures));
      for (const begun of await this.#reencryptions()) await attempt(this.#reencrypt(begun));
      await attempt(this.#tell().then(() => undefined));
      return await this.#lease.holds();
    } finally {
      await this.#lease.release();
    }
  }

  /** Whether a lease is worth taking: it costs every server a write. */
  async #hasWork(): Promise<boolean> {
    const { outdatedWraps, reencryptions } = await this.#tell();
    if (outdatedWraps + reencryptions > 0) return true;
    return await isRotationDue(this.#options, this.#options.periods, this.#options.now());
  }

  async #rotateDue(): Promise<void> {
    const { providers, periods, now, logger } = this.#options;
    const version = await rotateDueMaster(providers, periods.masterKey, now());
    if (version !== null) logger.info({ masterVersion: version }, "the master key was rotated by schedule");
    const rotated = await rotateDueDataKeys(this.#options, periods.dataKey, now());
    if (rotated > 0) logger.info({ stores: rotated }, "data keys were rotated by schedule");
  }

  async #rewrap(failures: unknown[]): Promise<void> {
    const { logger } = this.#options;
    const { rewrapped, refused, failure } = await rewrapOutdated(this.#options, this.#lease.ref, async (count) => {
      this.#log({ rewrapped: count }, "wrapping store keys anew");
      return await this.#proceed();
    });
    if (rewrapped > 0) logger.info({ rewrapped }, "store keys were wrapped anew");
    if (failure !== null) failures.push(failure);
    if (refused > 0) failures.push(new WrapsRefusedError(refused));
  }

  async #reencrypt(begun: Reencryption): Promise<void> {
    const { logger } = this.#options;
    const outcome = await reencrypt(this.#options, begun, async () => {
      this.#log({}, "re-encrypting records");
      return await this.#proceed();
    });
    if (outcome === "done") logger.info({}, "the records of a store were re-encrypted");
    if (outcome === "kept") {
      logger.error(
        {},
        "a store was re-encrypted but for damaged records, which keep their data keys: verify names them",
      );
    }
  }

  /** Those that go on. */
  async #reencryptions(): Promise<Reencryption[]> {
    return (await this.#options.keys.reencryptions()).filter(({ endedAt }) => endedAt === null);
  }

  /** Between two steps. */
  async #proceed(): Promise<boolean> {
    return !this.#stopped && (await this.#lease.holds());
  }

  async #tell(): Promise<{ outdatedWraps: number; reencryptions: number }> {
    const { keys, providers, onProgress } = this.#options;
    const outdatedWraps = await countOutdated({ keys, providers });
    const reencryptions = (await this.#reencryptions()).length;
    onProgress?.(outdatedWraps, reencryptions);
    return { outdatedWraps, reencryptions };
  }

  #log(fields: object, message: string): void {
    const now = performance.now();
    if (now - this.#toldAt < TELL_MILLISECONDS) return;
    this.#toldAt = now;
    this.#options.logger.info(fields, message);
  }

  /** The first one is told; an outage of an hour is not worth a line every two seconds. */
  #tellFailures(failures: readonly unknown[]): void {
    const [error] = failures;
    const failure = error === undefined ? null : sentenceOf(error);
    if (failure !== null && failure !== this.#failure) {
      this.#options.logger.error(
        { error: describeError(error) },
        "some work on keys has failed, and will be tried again",
      );
    }
    this.#failure = failure;
  }
}

/** Wrapped store keys do not open. They are left as they are. */
class WrapsRefusedError extends Error {
  override name = "WrapsRefusedError";
  constructor(count: number) {
    super(
      `${count} wrapped store keys do not open, and were left as they are: they are damaged, or their master-key version is ` +
        "retired or not there. `tacenda-server verify` names them.",
    );
  }
}

function sentenceOf(error: unknown): string {
  const isKnown =
    error instanceof KeyProviderError || error instanceof StorageError || error instanceof WrapsRefusedError;
  return isKnown ? error.message : "It failed. The server's log has the cause.";
}

/** How many store keys are not under the current master key of the active provider. @throws {KeyProviderError} */
async function countOutdated({ keys, providers }: RewrapServices): Promise<number> {
  const counts = await keys.countWraps();
  if (counts.length === 0) return 0;
  const target = await providers.active();
  const masterVersion = await target.currentVersion();
  return counts
    .filter((one) => one.provider !== target.id || one.masterVersion !== masterVersion)
    .reduce((sum, { wraps }) => sum + wraps, 0);
}
