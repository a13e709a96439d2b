/** The default key provider: master keys in a file beside the database; spec/envelope.md § Local keyring, § Keyring. */

import { createSecretKey, type KeyObject } from "node:crypto";
import { access, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

import { openFrom, sealInto } from "../aead.js";
import {
  KeyProviderError,
  type KeyProvider,
  type MasterKeyVersion,
  type MasterKeys,
  type Wrap,
  type WrapContext,
} from "../key-provider.js";
import {
  KeyringError,
  createKeyring,
  lockKeyring,
  newKey,
  readKeyring,
  replaceKeyring,
  type Keyring,
} from "./keyring-file.js";
import { SEAL_OFFSET, additionalData, checkStoreKey, checkedWrap, emptyWrap, refusedWrap } from "./wrap-format.js";

export { KeyringError } from "./keyring-file.js";

/**
 * Opens the keyring in `file`; with `create`, makes it first when there is none.
 * @throws {KeyringError} when it is missing, open to others, malformed, of another format, damaged, or not to be made.
 */
export async function openKeyring(file: string, options: { create: boolean }): Promise<LocalKeyring> {
  if (options.create && !(await exists(file))) await createKeyring(file);
  const stamp = await stampOf(file);
  return new LocalKeyring(file, await readKeyring(file), stamp);
}

/** How long to wait for another process that changes the file, and how often to look, in milliseconds. */
const LOCK_MILLISECONDS = 5_000;
const LOCK_POLL_MILLISECONDS = 20;

interface MasterKey {
  state: MasterKeyVersion["state"];
  createdAt: number;
  key: KeyObject | null;
}

/**
 * Wraps store keys with AES-256-GCM under the master keys of a keyring file. The file is read again when it has changed, so
 * that servers with one keyring follow each other. While it cannot be read, what was read before still unwraps.
 */
export class LocalKeyring implements KeyProvider {
  readonly id: string;
  readonly masterKeys: Required<Omit<MasterKeys, "instead">> = {
    scheduled: true,
    versions: () => this.#versions(),
    rotate: () => this.#rotate(),
    retire: (version) => this.#retire(version),
    reinstate: (version) => this.#change(version, "retired", "enabled"),
    destroy: (version) => this.#destroy(version),
  };
  readonly #file: string;
  #keyring: Keyring;
  #stamp: string;
  #keys: ReadonlyMap<number, MasterKey>;
  /** Changes come one after the other. */
  #changing: Promise<unknown> = Promise.resolve();

  constructor(file: string, keyring: Keyring, stamp: string) {
    this.id = `local:${keyring.id}`;
    this.#file = file;
    this.#keyring = keyring;
    this.#stamp = stamp;
    this.#keys = keysOf(keyring);
  }

  async currentVersion(): Promise<number> {
    await this.#refresh();
    return this.#keyring.current;
  }

  async wrap(key: Uint8Array, context: WrapContext): Promise<Wrap> {
    checkStoreKey(key);
    await this.#refresh();
    const { current } = this.#keyring;
    const wrapped = emptyWrap(current);
    sealInto(wrapped, SEAL_OFFSET, this.#masterKey(current), additionalData(context, current), key);
    return { masterVersion: current, wrapped };
  }

  async unwrap(wrap: Wrap, context: WrapContext): Promise<Uint8Array> {
    const wrapped = checkedWrap(wrap);
    if (wrapped === null) throw refusedWrap(this.id);
    // What was read before is as good as ever, whatever became of the file.
    await this.#refresh().catch(() => undefined);
    const masterKey = this.#masterKey(wrap.masterVersion);
    const key = openFrom(wrapped, SEAL_OFFSET, masterKey, additionalData(context, wrap.masterVersion));
    if (key === null) throw refusedWrap(this.id);
    return key;
  }

  async health(): Promise<void> {
    await this.#refresh();
    this.#masterKey(this.#keyring.current);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** @throws {KeyProviderError} `unavailable` when the file has changed and cannot be used. */
  async #refresh(): Promise<void> {
    try {
      const stamp = await stampOf(this.#file);
      if (stamp === this.#stamp) return;
      const keyring = await readKeyring(this.#file);
      if (`local:${keyring.id}` !== this.id) {
        throw new KeyringError(`The keyring ${this.#file} was replaced by another one: put ${this.id} back.`);
      }
      this.#use(keyring, stamp);
    } catch (error) {
      const message = error instanceof KeyringError ? error.message : `The keyring ${this.#file} cannot be read.`;
      throw new KeyProviderError("unavailable", message, { cause: error });
    }
  }

  #use(keyring: Keyring, stamp: string): void {
    this.#keyring = keyring;
    this.#stamp = stamp;
    this.#keys = keysOf(keyring);
  }

  #masterKey(version: number): KeyObject {
    const known = this.#keys.get(version);
    if (known?.state === "enabled" && known.key !== null) return known.key;
    const faults = {
      retired: "is retired: reinstate it with `tacenda-server keys reinstate`, if it is to open this once more",
      destroyed: "was destroyed: what it wrapped cannot be opened any more",
      damaged: "is damaged: restore the keyring from its backup",
      enabled: "is not there: restore the newest keyring",
    };
    throw new KeyProviderError(
      "refused",
      `Master-key version ${version} of the keyring ${this.id} ${faults[known?.state ?? "enabled"]}.`,
    );
  }

  async #versions(): Promise<MasterKeyVersion[]> {
    await this.#refresh();
    return [...this.#keys].map(([version, { state, createdAt }]) => ({ version, createdAt, state }));
  }

  async #rotate(): Promise<number> {
    const next = await this.#replace(({ id, keys }) => {
      const key = newKey(Math.max(...keys.map(({ version }) => version)) + 1);
      return { id, current: key.version, keys: [...keys, key] };
    });
    return next.current;
  }

  async #retire(version: number): Promise<void> {
    if ((await this.currentVersion()) === version) {
      throw new KeyProviderError("refused", `Master-key version ${version} is the current one: rotate first.`);
    }
    await this.#change(version, "enabled", "retired");
  }

  async #destroy(version: number): Promise<void> {
    await this.#change(version, "retired", "destroyed");
  }

  /** @throws {KeyProviderError} `refused` when the version is in neither of the two states. */
  async #change(version: number, from: MasterKeyVersion["state"], to: "enabled" | "retired" | "destroyed") {
    await this.#replace((keyring) => {
      const state = keyring.keys.find((key) => key.version === version)?.state ?? "unknown";
      if (state === to) return keyring;
      if (state !== from) {
        throw new KeyProviderError(
          "refused",
          `Master-key version ${version} of the keyring ${this.id} is ${state}, and must be ${from} to become ${to}.`,
        );
      }
      const keys = keyring.keys.map((one) =>
        one.version === version ? { ...one, state: to, key: to === "destroyed" ? null : one.key } : one,
      );
      return { ...keyring, keys };
    });
  }

  /** Writes what `change` makes of the keyring as it is in the file, which nobody else changes meanwhile. */
  async #replace(change: (keyring: Keyring) => Keyring): Promise<Keyring> {
    const work = this.#changing.then(() => this.#replaceLocked(change));
    this.#changing = work.catch(() => undefined);
    return await work;
  }

  async #replaceLocked(change: (keyring: Keyring) => Keyring): Promise<Keyring> {
    try {
      const lock = await this.#lock();
      try {
        await this.#refresh();
        const next = change(this.#keyring);
        if (next === this.#keyring) return next;
        await replaceKeyring(this.#file, next);
        // As it stands on the disk: it is the only copy that counts.
        await this.#refresh();
        return next;
      } finally {
        lock.release();
      }
    } catch (error) {
      if (error instanceof KeyProviderError) throw error;
      const message = error instanceof KeyringError ? error.message : `The keyring ${this.#file} cannot be written.`;
      throw new KeyProviderError("unavailable", message, { cause: error });
    }
  }

  /** Two servers that change the file at once would lose the key that one of them has made. */
  async #lock(): Promise<{ release(): void }> {
    const deadline = performance.now() + LOCK_MILLISECONDS;
    for (;;) {
      const lock = await lockKeyring(this.#file);
      if (lock !== null) return lock;
      if (performance.now() > deadline) {
        throw new KeyringError(`The keyring ${this.#file} is being changed by another process. Try again.`);
      }
      await sleep(LOCK_POLL_MILLISECONDS);
    }
  }
}

function keysOf(keyring: Keyring): ReadonlyMap<number, MasterKey> {
  const sorted = keyring.keys.toSorted((a, b) => a.version - b.version);
  return new Map(
    sorted.map(({ version, state, createdAt, key }) => [
      version,
      { state, createdAt: Date.parse(createdAt), key: key && createSecretKey(key) },
    ]),
  );
}

/** Changes when the file does: each new keyring is another file, with another number. */
async function stampOf(file: string): Promise<string> {
  try {
    const { ino, size, mtimeNs } = await stat(file, { bigint: true });
    return `${ino} ${size} ${mtimeNs}`;
  } catch {
    return "absent";
  }
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
