/** The versions of a master key on a hardware token, and what is done with them; spec/envelope.md § Hardware tokens. */

import type { MasterKeyVersion } from "../key-provider.js";
import type { Cryptoki, Pkcs11js } from "./pkcs11-cryptoki.ts";
import {
  MAX_VERSION,
  decrypt,
  destroyObject,
  encrypt,
  findObjects,
  generateKey,
  setEnabled,
  type GcmInput,
  type MasterKeyObject,
} from "./pkcs11-objects.ts";
import { TokenFailure, assertPresent, openSession, type TokenOptions, type TokenSession } from "./pkcs11-session.ts";

/** What is sealed, or to be sealed, by the master key of a version. */
export interface Sealing extends GcmInput {
  version: number;
  data: Uint8Array;
}

/** Milliseconds for which a wrap may go by what its session shows: so that many wraps in a row do not log in for each. */
const RENEWAL = 1_000;

/**
 * One token, connected to at the first call. Its calls block: they are made in a process of their own. Nothing is kept between
 * them, so that servers with one token follow each other. After a failure that is no `refused`, nothing is known of the token's
 * state: this is thrown away with its process, not mended.
 */
export class Token {
  readonly #pkcs11js: Pkcs11js;
  readonly #cryptoki: Cryptoki;
  readonly #options: TokenOptions;
  #session: TokenSession | null = null;
  /** When the session began. */
  #since = 0;

  /** `cryptoki` has its module loaded. */
  constructor(pkcs11js: Pkcs11js, cryptoki: Cryptoki, options: TokenOptions) {
    this.#pkcs11js = pkcs11js;
    this.#cryptoki = cryptoki;
    this.#options = options;
  }

  /** Throws unless the token can wrap and unwrap now. One that has no key yet can. */
  check(): void {
    this.#current(this.#objects());
  }

  /** Ascending. An object with the label that has no version is not among them. */
  versions(): MasterKeyVersion[] {
    this.#renew(0);
    const objects = this.#objects();
    const versions = new Set(objects.map(({ version }) => version).filter((version) => version !== null));
    return [...versions]
      .sort((a, b) => a - b)
      .map((version) => {
        const same = objects.filter((object) => object.version === version);
        return { version, createdAt: same[0]?.createdAt ?? null, state: stateOf(same) };
      });
  }

  /** The version that new wraps use. Before there is any key it is 1, which `create` makes. */
  current({ create }: { create: boolean }): number {
    this.#renew(RENEWAL);
    const current = this.#current(this.#objects());
    if (current !== null) return current;
    if (create) generateKey(this.#connect(), this.#options.object, 1);
    return 1;
  }

  /** Ciphertext and tag. */
  seal({ version, data, ...input }: Sealing): Uint8Array {
    const [key] = this.#usable(version);
    return encrypt(this.#connect(), key, input, data);
  }

  /**
   * What was sealed, or null when it does not open. A version may have several objects, because no token knows "make it unless it
   * is there": two servers that start on an empty token at once, or rotate at once, make one each. What any of them sealed opens.
   */
  open(sealing: Sealing): Uint8Array | null {
    const usable = this.#objects().filter(({ version, opens }) => opens && version === sealing.version);
    const opened = this.#openWith(usable, sealing);
    if (opened !== null) return opened;
    this.#renew(0);
    return this.#openWith(this.#usable(sealing.version), sealing);
  }

  /** Makes the next version, and returns it. */
  rotate(): number {
    this.#renew(0);
    const version = maxVersion(this.#objects()) + 1;
    if (version > MAX_VERSION)
      throw new TokenFailure("refused", `There is no master-key version after ${MAX_VERSION}.`);
    generateKey(this.#connect(), this.#options.object, version);
    return version;
  }

  /** Lets a version encrypt and decrypt, or not. */
  setEnabled({ version, isEnabled }: { version: number; isEnabled: boolean }): void {
    this.#renew(0);
    const objects = this.#objects();
    const same = this.#ofVersion(objects, version);
    if (stateOf(same) === "damaged") throw this.#wrongKey(same);
    if (!isEnabled && this.#current(objects) === version) {
      throw new TokenFailure("refused", `Master-key version ${version} is the current one: rotate first.`);
    }
    for (const object of same) {
      if (isEnabled ? !object.seals : object.opens) setEnabled(this.#connect(), object, isEnabled);
    }
  }

  /** Destroys a retired version. */
  destroy({ version }: { version: number }): void {
    this.#renew(0);
    const objects = this.#objects();
    // There are later ones, and this is not among them: it was destroyed before.
    if (objects.every((object) => object.version !== version) && maxVersion(objects) > version) return;
    const same = this.#ofVersion(objects, version);
    const state = stateOf(same);
    if (state !== "retired") {
      throw new TokenFailure(
        "refused",
        `Master-key version ${version} of ${this.#name} is ${state}, and must be retired to become destroyed.`,
      );
    }
    for (const object of same) destroyObject(this.#connect(), object);
  }

  /** Gives the session back. */
  close(): void {
    if (this.#session === null) return;
    this.#session = null;
    this.#cryptoki.C_Finalize();
  }

  get #name(): string {
    return `the token ${this.#options.token}`;
  }

  #connect(): TokenSession {
    if (this.#session !== null) return this.#session;
    this.#since = performance.now();
    this.#session = openSession(this.#pkcs11js, this.#cryptoki, this.#options);
    return this.#session;
  }

  /**
   * Has the library read the token anew unless the session is younger than so many milliseconds. It may not show what another
   * server has made meanwhile: SoftHSM, for one, when both made something at the same moment.
   */
  #renew(age: number): void {
    if (performance.now() - this.#since >= age) this.close();
  }

  #openWith(keys: readonly MasterKeyObject[], { data, ...input }: Sealing): Uint8Array | null {
    for (const key of keys) {
      const opened = decrypt(this.#connect(), key, input, data);
      if (opened !== null) return opened;
    }
    return null;
  }

  #objects(): MasterKeyObject[] {
    const session = this.#connect();
    const objects = findObjects(session, this.#options.object);
    assertPresent(session, this.#options);
    return objects;
  }

  /** The highest version that seals; null when there are no keys. A wrong key that is as new, or of no version, is told. */
  #current(objects: readonly MasterKeyObject[]): number | null {
    if (objects.length === 0) return null;
    const current = maxVersion(objects.filter(({ seals }) => seals));
    const wrong = objects.filter((object) => object.wrong !== null && (object.version ?? MAX_VERSION) >= current);
    if (wrong.length > 0) throw this.#wrongKey(wrong);
    if (current > 0) return current;
    throw new TokenFailure(
      "refused",
      `No master key of ${this.#name} is enabled: reinstate the newest one, or rotate.`,
    );
  }

  #ofVersion(objects: readonly MasterKeyObject[], version: number): MasterKeyObject[] {
    const same = objects.filter((object) => object.version === version);
    if (same.length > 0) return same;
    throw new TokenFailure(
      "refused",
      `Master-key version ${version} is not on ${this.#name}: it was destroyed, or is to be restored from the token's backup.`,
    );
  }

  /** The objects of a version that open what it sealed; those that seal too come first. */
  #usable(version: number): [MasterKeyObject, ...MasterKeyObject[]] {
    const same = this.#ofVersion(this.#objects(), version);
    const [first, ...others] = same.filter(({ opens }) => opens).sort((a, b) => Number(b.seals) - Number(a.seals));
    if (first !== undefined) return [first, ...others];
    if (stateOf(same) === "damaged") throw this.#wrongKey(same);
    throw new TokenFailure(
      "refused",
      `Master-key version ${version} of ${this.#name} is retired: reinstate it with \`tacenda-server keys reinstate\`, ` +
        "if it is to open this once more.",
    );
  }

  #wrongKey(objects: readonly MasterKeyObject[]): TokenFailure {
    const { version, wrong } = objects.find((object) => object.wrong !== null) ?? { version: null, wrong: null };
    const which = version === null ? "" : `, as master-key version ${version}`;
    return new TokenFailure(
      "refused",
      `There is a wrong key named ${this.#options.object} on ${this.#name}${which}: ${wrong ?? "it cannot be used"}. ` +
        "Give it another label, or remove it, with the tools of the token's maker.",
    );
  }
}

function maxVersion(objects: readonly MasterKeyObject[]): number {
  return Math.max(0, ...objects.map(({ version }) => version ?? 0));
}

/** Of the objects of one version: it is no better than the worst of them, and retired once none of them opens anything. */
function stateOf(objects: readonly MasterKeyObject[]): "enabled" | "retired" | "damaged" {
  if (objects.some(({ wrong }) => wrong !== null)) return "damaged";
  return objects.some(({ opens }) => opens) ? "enabled" : "retired";
}
