/** Master keys on a hardware token (an HSM), through PKCS#11; spec/envelope.md § Hardware tokens. */

import { randomBytes } from "node:crypto";
import { access, readFile } from "node:fs/promises";

import { StartupError } from "../../startup-error.js";
import type { KeyProvider, MasterKeys, Wrap, WrapContext } from "../key-provider.js";
import { ChildFailure, TokenProcess } from "./pkcs11-process.js";
import { parsePkcs11Uri, type Pkcs11Uri } from "./pkcs11-uri.js";
import {
  SEAL_OFFSET,
  WRAPPED_KEY_BYTES,
  additionalData,
  checkStoreKey,
  checkedWrap,
  emptyWrap,
  refusedWrap,
} from "./wrap-format.js";

export interface Pkcs11Options {
  /** Where the PIN is, unless the URI names a file: TACENDA_PKCS11_PIN. */
  environment: NodeJS.ProcessEnv;
  /** Milliseconds that a call may wait for those before it, and again that the token may take for it. */
  limit?: number;
  /** Milliseconds after a failure for which the token is left alone. */
  pause?: number;
}

const NONCE_BYTES = 12;
const LIMIT = 10_000;
const PAUSE = 1_000;

/**
 * Opens the provider that a `pkcs11:` URI names. The token is asked nothing yet: it may be away.
 * @throws {InvalidOptionError} when the URI cannot be used.
 * @throws {StartupError} when the PIN or the module is missing.
 * @throws {ChildFailure} when the package pkcs11js is.
 */
export async function openPkcs11(uri: string, options: Pkcs11Options): Promise<Pkcs11KeyProvider> {
  const named = parsePkcs11Uri(uri);
  const { modulePath, token, serial, object } = named;
  await readPin(named, options.environment);
  await access(modulePath).catch((cause: unknown) => {
    throw new StartupError(`There is no PKCS#11 module at ${modulePath} that this user can read.`, { cause });
  });
  const tokenProcess = new TokenProcess({
    start: async () => ({ modulePath, token, serial, object, pin: await readPin(named, options.environment) }),
    limit: options.limit ?? LIMIT,
    pause: options.pause ?? PAUSE,
  });
  try {
    await tokenProcess.start();
  } catch (error) {
    if (error instanceof ChildFailure && error.fault !== "package")
      throw new StartupError(error.message, { cause: error });
    throw error;
  }
  return new Pkcs11KeyProvider(named.id, tokenProcess);
}

/** Wraps store keys with AES-256-GCM under keys that never leave the token. */
export class Pkcs11KeyProvider implements KeyProvider {
  readonly id: string;
  readonly masterKeys: MasterKeys;
  readonly #token: TokenProcess;

  constructor(id: string, token: TokenProcess) {
    this.id = id;
    this.#token = token;
    const setEnabled = (version: number, isEnabled: boolean) =>
      token.call({ call: "setEnabled", input: { version, isEnabled } });
    this.masterKeys = {
      scheduled: true,
      versions: () => token.call({ call: "versions", input: undefined }),
      rotate: () => token.call({ call: "rotate", input: undefined }),
      retire: (version) => setEnabled(version, false),
      reinstate: (version) => setEnabled(version, true),
      destroy: (version) => token.call({ call: "destroy", input: { version } }),
    };
  }

  async currentVersion(): Promise<number> {
    return await this.#token.call({ call: "current", input: { create: false } });
  }

  async wrap(key: Uint8Array, context: WrapContext): Promise<Wrap> {
    checkStoreKey(key);
    const version = await this.#token.call({ call: "current", input: { create: true } });
    const nonce = randomBytes(NONCE_BYTES);
    const sealing = { version, nonce, additionalData: additionalData(context, version), data: key };
    const sealed = await this.#token.call({ call: "seal", input: sealing });
    const wrapped = emptyWrap(version);
    wrapped.set(nonce, SEAL_OFFSET);
    wrapped.set(sealed, SEAL_OFFSET + NONCE_BYTES);
    return { masterVersion: version, wrapped };
  }

  async unwrap(wrap: Wrap, context: WrapContext): Promise<Uint8Array> {
    const wrapped = checkedWrap(wrap);
    if (wrapped === null) throw refusedWrap(this.id);
    const version = wrap.masterVersion;
    const nonce = wrapped.subarray(SEAL_OFFSET, SEAL_OFFSET + NONCE_BYTES);
    const data = wrapped.subarray(SEAL_OFFSET + NONCE_BYTES);
    const sealing = { version, nonce, additionalData: additionalData(context, version), data };
    const key = await this.#token.call({ call: "open", input: sealing });
    if (key?.length !== WRAPPED_KEY_BYTES) throw refusedWrap(this.id);
    return key;
  }

  async health(): Promise<void> {
    await this.#token.call({ call: "check", input: undefined });
  }

  async close(): Promise<void> {
    await this.#token.close();
  }
}

/** @throws {StartupError} when there is none. */
async function readPin({ pinFile }: Pkcs11Uri, environment: NodeJS.ProcessEnv): Promise<string> {
  if (pinFile === null) {
    const { TACENDA_PKCS11_PIN: pin = "" } = environment;
    if (pin !== "") return pin;
    throw new StartupError(
      "The PIN of the token is missing: set TACENDA_PKCS11_PIN, or add pin-source=file:/path/of/pin to the URI.",
    );
  }
  let text: string;
  try {
    text = await readFile(pinFile, "utf8");
  } catch (cause) {
    throw new StartupError(`The PIN cannot be read from ${pinFile}: name a file that this user can read.`, { cause });
  }
  const pin = text.replace(/\r?\n$/, "");
  if (pin !== "") return pin;
  throw new StartupError(`There is no PIN in ${pinFile}: it is the only line of the file.`);
}
