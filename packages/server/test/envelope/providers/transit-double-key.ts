/**
 * A key of the transit double. It follows OpenBao's sdk/helper/keysutil/policy.go and internal/builtin/logical/transit/, whose
 * rules and texts are those of hashicorp/vault builtin/logical/transit/ (path_trim.go, path_keys_config.go compared):
 *
 * - Ciphertexts are `vault:vN:` and base64 of nonce ‖ AES-256-GCM (DefaultVersionTemplate, also in OpenBao; SymmetricEncryptRaw).
 * - A derived key encrypts under HKDF-SHA-256(version's key, no salt, info = context), 32 bytes (DeriveKey, Kdf_hkdf_sha256); one
 *   that is not derived ignores the context (GetKey).
 * - The checks of a ciphertext come in the order prefix, fields, number, too new, too old, base64, length, tag, each with its text
 *   (DecryptWithFactory, SymmetricDecryptRaw). Base64 is read as leniently as Go's StdEncoding: line breaks and loose last bits pass.
 * - Encryption takes the latest version whatever min_encryption_version says (EncryptWithFactory: ver == 0).
 * - Rewrapping is decryption and encryption; it takes a context and no associated_data (path_rewrap.go).
 * - `keys` lists no version below min_decryption_version: those are archived (handleArchiving); times are Unix seconds
 *   (formatKeyPolicy, DeprecatedCreationTime).
 * - Config and trim rules: path_keys_config.go, path_trim.go, case for case, misspellings included.
 */

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";

/** Answered as HTTP 400 with this text. */
export class BadRequest extends Error {}

export interface DoubleKeyAttributes {
  type: string;
  derived: boolean;
  convergent_encryption: boolean;
  exportable: boolean;
  allow_plaintext_backup: boolean;
  soft_deleted: boolean;
  imported_key: boolean;
  imported_key_allow_rotation: boolean;
}

const FIT: DoubleKeyAttributes = {
  type: "aes256-gcm96",
  derived: true,
  convergent_encryption: false,
  exportable: false,
  allow_plaintext_backup: false,
  soft_deleted: false,
  imported_key: false,
  imported_key_allow_rotation: false,
};

export class DoubleKey {
  readonly attributes: DoubleKeyAttributes;
  minDecryption = 1;
  minEncryption = 0;
  minAvailable = 0;
  readonly #name: string;
  readonly #versions: { key: Buffer | null; time: number }[] = [];

  constructor(name: string, attributes: Partial<DoubleKeyAttributes> = {}) {
    this.#name = name;
    this.attributes = { ...FIT, ...attributes };
    this.rotate();
  }

  get latest(): number {
    return this.#versions.length;
  }

  rotate(): void {
    this.#checkNotDeleted();
    this.#versions.push({ key: randomBytes(32), time: Math.floor(Date.now() / 1000) });
  }

  encrypt(plaintext: Buffer, context: Buffer): string {
    this.#checkNotDeleted();
    const nonce = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", this.#cipherKey(this.latest, context), nonce);
    const sealed = Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
    return `vault:v${this.latest}:${sealed.toString("base64")}`;
  }

  decrypt(ciphertext: string, context: Buffer): Buffer {
    this.#checkNotDeleted();
    if (!ciphertext.startsWith("vault:v")) throw new BadRequest("invalid ciphertext: no prefix");
    const [, number, base64] = /^vault:v([^:]*):(.*)$/s.exec(ciphertext) ?? [];
    if (number === undefined || base64 === undefined)
      throw new BadRequest("invalid ciphertext: wrong number of fields");
    if (!/^[+-]?\d+$/.test(number)) throw new BadRequest("invalid ciphertext: version number could not be decoded");
    const version = Number(number) || 1;
    if (version > this.latest) throw new BadRequest("invalid ciphertext: version is too new");
    if (version < this.minDecryption) {
      throw new BadRequest("ciphertext or signature version is disallowed by policy (too old)");
    }
    const compact = base64.replaceAll(/[\r\n]/g, "");
    if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(compact)) {
      throw new BadRequest("invalid ciphertext: could not decode base64");
    }
    const key = this.#cipherKey(version, context);
    const bytes = Buffer.from(compact, "base64");
    if (bytes.length < 12) throw new BadRequest("invalid ciphertext length");
    try {
      const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, 12));
      decipher.setAuthTag(bytes.subarray(-16));
      return Buffer.concat([decipher.update(bytes.subarray(12, -16)), decipher.final()]);
    } catch {
      throw new BadRequest("cipher: message authentication failed");
    }
  }

  configure(body: Record<string, unknown>): void {
    const decryption = integer(body.min_decryption_version) ?? this.minDecryption;
    const encryption = integer(body.min_encryption_version) ?? this.minEncryption;
    if (decryption < 0) throw new BadRequest("min decryption version cannot be negative");
    const next = { decryption: decryption === 0 ? 1 : decryption, encryption };
    if (next.decryption > this.latest) {
      throw new BadRequest(
        `cannot set min decryption version of ${next.decryption}, latest key version is ${this.latest}`,
      );
    }
    if (encryption < 0) throw new BadRequest("min encryption version cannot be negative");
    if (encryption > this.latest) {
      throw new BadRequest(`cannot set min encryption version of ${encryption}, latest key version is ${this.latest}`);
    }
    if (encryption > 0 && encryption < next.decryption) {
      throw new BadRequest(
        `cannot set min encryption/decryption values; min encryption version of ${encryption} must be greater than or ` +
          `equal to min decryption version of ${next.decryption}`,
      );
    }
    if (next.decryption === this.minDecryption && encryption === this.minEncryption) return;
    if (this.minAvailable > encryption) {
      throw new BadRequest("min encryption version should not be less than min available version");
    }
    if (this.minAvailable > next.decryption) {
      throw new BadRequest("min decryption version should not be less then min available version");
    }
    this.minDecryption = next.decryption;
    this.minEncryption = encryption;
  }

  trim(body: Record<string, unknown>): void {
    const available = integer(body.min_available_version);
    if (available === undefined) throw new BadRequest("missing min_available_version");
    const fault = this.#trimFault(available);
    if (fault !== null) throw new BadRequest(`minimum available version ${fault}`);
    this.minAvailable = available;
    for (const old of this.#versions.slice(0, available - 1)) old.key = null;
  }

  describe(): Record<string, unknown> {
    const { convergent_encryption, soft_deleted, ...attributes } = this.attributes;
    const listed = this.#versions.map(({ time }, index) => [String(index + 1), time] as const);
    return {
      ...attributes,
      name: this.#name,
      deletion_allowed: false,
      soft_deleted,
      auto_rotate_period: 0,
      latest_version: this.latest,
      min_available_version: this.minAvailable,
      min_decryption_version: this.minDecryption,
      min_encryption_version: this.minEncryption,
      supports_encryption: true,
      supports_decryption: true,
      supports_signing: false,
      supports_derivation: true,
      ...(attributes.derived ? { kdf: "hkdf_sha256", convergent_encryption } : {}),
      keys: Object.fromEntries(listed.slice(this.minDecryption - 1)),
    };
  }

  #trimFault(available: number): string | null {
    if (available < this.minAvailable) return "cannot be decremented";
    if (this.minEncryption === 0) return "cannot be set when minimum encryption version is not set";
    if (available > this.minEncryption) return "cannot be greater than minmum encryption version";
    if (available > this.minDecryption) return "cannot be greater than minimum decryption version";
    if (available < 0) return "cannot be negative";
    return available === 0 ? "should be positive" : null;
  }

  #cipherKey(version: number, context: Buffer): Buffer {
    const key = this.#versions[version - 1]?.key;
    if (!key) throw new BadRequest("no such key version");
    if (!this.attributes.derived) return key;
    if (context.length === 0) throw new BadRequest("missing 'context' for key derivation; the key was created using …");
    return Buffer.from(hkdfSync("sha256", key, Buffer.alloc(0), context, 32));
  }

  #checkNotDeleted(): void {
    if (this.attributes.soft_deleted) throw new BadRequest("refusing to use soft-deleted key");
  }
}

function integer(value: unknown): number | undefined {
  return typeof value === "number" && Number.isInteger(value) ? value : undefined;
}
