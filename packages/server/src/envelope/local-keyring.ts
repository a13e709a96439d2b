/** The default key provider: master keys in a file beside the database; spec/envelope.md § Wrapping, § Keyring file. */

import { createSecretKey, type KeyObject } from "node:crypto";
import { access } from "node:fs/promises";

import { SEAL_BYTES, openFrom, sealInto } from "./aead.js";
import { asBuffer, lp, u32 } from "./bytes.js";
import { KeyProviderError, type KeyProvider, type Wrap, type WrapContext } from "./key-provider.js";
import { createKeyring, readKeyring, type KeyringFile } from "./keyring-file.js";

export { KeyringError } from "./keyring-file.js";

const WRAP_FORMAT = 1;
/** Format and master-key version, before the nonce. */
const SEAL_OFFSET = 1 + 4;
const WRAPPED_KEY_BYTES = 32;
const WRAP_BYTES = SEAL_OFFSET + WRAPPED_KEY_BYTES + SEAL_BYTES;

/**
 * Opens the keyring in `file`; with `create`, makes it first when there is none.
 * @throws {KeyringError} when it is missing, open to others, malformed, of another format, damaged, or not to be made.
 */
export async function openKeyring(file: string, options: { create: boolean }): Promise<LocalKeyring> {
  if (options.create && !(await exists(file))) await createKeyring(file);
  return new LocalKeyring(await readKeyring(file));
}

/** Wraps store keys with AES-256-GCM under the master keys of a keyring file, read once. */
export class LocalKeyring implements KeyProvider {
  readonly id: string;
  readonly #current: number;
  readonly #keys: ReadonlyMap<number, KeyObject>;

  constructor(keyring: KeyringFile) {
    this.id = `local:${keyring.id}`;
    this.#current = keyring.current;
    this.#keys = new Map(
      keyring.keys.map(({ version, key }) => [version, createSecretKey(Buffer.from(key, "base64url"))]),
    );
  }

  currentVersion(): Promise<number> {
    return Promise.resolve(this.#current);
  }

  wrap(key: Uint8Array, context: WrapContext): Promise<Wrap> {
    return settle(() => {
      if (key.length !== WRAPPED_KEY_BYTES) {
        throw new KeyProviderError("refused", `Only keys of ${WRAPPED_KEY_BYTES} bytes can be wrapped.`);
      }
      const wrapped = Buffer.alloc(WRAP_BYTES);
      wrapped[0] = WRAP_FORMAT;
      wrapped.writeUInt32BE(this.#current, 1);
      sealInto(wrapped, SEAL_OFFSET, this.#masterKey(this.#current), additionalData(context, this.#current), key);
      return { masterVersion: this.#current, wrapped };
    });
  }

  unwrap(wrap: Wrap, context: WrapContext): Promise<Uint8Array> {
    return settle(() => {
      const wrapped = asBuffer(wrap.wrapped);
      if (
        wrapped.length !== WRAP_BYTES ||
        wrapped[0] !== WRAP_FORMAT ||
        wrapped.readUInt32BE(1) !== wrap.masterVersion
      ) {
        throw this.#refusal();
      }
      const masterKey = this.#masterKey(wrap.masterVersion);
      const key = openFrom(wrapped, SEAL_OFFSET, masterKey, additionalData(context, wrap.masterVersion));
      if (key === null) throw this.#refusal();
      return key;
    });
  }

  health(): Promise<void> {
    return Promise.resolve();
  }

  #masterKey(version: number): KeyObject {
    const key = this.#keys.get(version);
    if (key === undefined) {
      throw new KeyProviderError(
        "refused",
        `A store key needs master-key version ${version}, which the keyring ${this.id} lacks: restore the newest keyring.`,
      );
    }
    return key;
  }

  #refusal(): KeyProviderError {
    return new KeyProviderError(
      "refused",
      `A wrapped store key does not open under the keyring ${this.id}: it was damaged or edited in the database. ` +
        "Restore the database's keys from a backup.",
    );
  }
}

function additionalData({ project, store, purpose, version }: WrapContext, masterVersion: number): Buffer {
  return Buffer.concat([lp("tacenda/1/wrap"), lp(project), lp(store), lp(purpose), u32(version), u32(masterVersion)]);
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}

/** The result, or what was thrown, as a promise. */
function settle<T>(work: () => T): Promise<T> {
  return new Promise((resolve) => {
    resolve(work());
  });
}
