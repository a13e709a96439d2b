/** One key of the double of AWS KMS: its materials, its state, its rotations, and the blobs that it makes. */

import { createCipheriv, createDecipheriv, createHash, randomBytes, randomUUID } from "node:crypto";

/** An error as AWS answers it. */
export class AwsError extends Error {
  readonly status: number;
  constructor(name: string, message: string, status = 400) {
    super(message);
    this.name = name;
    this.status = status;
  }
}

export type Context = Record<string, string>;

interface Material {
  id: string;
  key: Buffer;
  /** Milliseconds since the epoch; null for the first. */
  rotationDate: number | null;
  rotationType: "AUTOMATIC" | "ON_DEMAND" | null;
}

const ON_DEMAND_LIMIT = 25;
const HEADER_BYTES = 1 + 16 + 16;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

export class DoubleKey {
  readonly arn: string;
  readonly creationDate = Date.now();
  state: "Enabled" | "Disabled" | "PendingDeletion" | "PendingImport" = "Enabled";
  usage: "ENCRYPT_DECRYPT" | "SIGN_VERIFY" = "ENCRYPT_DECRYPT";
  /** False as in a custom key store or for an asymmetric key. */
  hasRotations = true;
  /** Milliseconds that an on-demand rotation takes. */
  rotationTime = 300;
  readonly materials: Material[] = [newMaterial(null)];
  #rotatingSince: number | null = null;
  #timer: NodeJS.Timeout | undefined;

  constructor(region: string, id: string = randomUUID()) {
    this.arn = `arn:aws:kms:${region}:111122223333:key/${id}`;
  }

  get current(): Material {
    const last = this.materials.at(-1);
    if (!last) throw new Error("A key has at least its first material.");
    return last;
  }

  get onDemandStart(): number | null {
    return this.#rotatingSince;
  }

  /** What AWS does by its own schedule. */
  rotateAutomatically(): void {
    this.materials.push(newMaterial("AUTOMATIC"));
  }

  rotateOnDemand(): void {
    const spent = this.materials.filter(({ rotationType }) => rotationType === "ON_DEMAND").length;
    if (spent >= ON_DEMAND_LIMIT) throw new AwsError("LimitExceededException", "No on-demand rotations are left.");
    this.#rotatingSince = Date.now();
    this.#timer = setTimeout(() => {
      this.materials.push(newMaterial("ON_DEMAND"));
      this.#rotatingSince = null;
    }, this.rotationTime);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  /** @throws {AwsError} unless the key may be used now. */
  checkUsable(): void {
    if (this.state === "Disabled") throw new AwsError("DisabledException", `${this.arn} is disabled.`);
    if (this.state !== "Enabled") {
      const state = this.state === "PendingDeletion" ? "pending deletion" : "pending import";
      throw new AwsError("KMSInvalidStateException", `${this.arn} is ${state}.`);
    }
    if (this.usage !== "ENCRYPT_DECRYPT")
      throw new AwsError("InvalidKeyUsageException", `${this.arn} key usage is SIGN_VERIFY.`);
  }

  encrypt(plaintext: Buffer, context: Context): Buffer {
    const material = this.current;
    const header = Buffer.concat([Buffer.of(1), keyTag(this.arn), Buffer.from(material.id, "hex")]);
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv("aes-256-gcm", material.key, nonce).setAAD(additionalData(header, context));
    return Buffer.concat([header, nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  }

  /** @throws {AwsError} */
  decrypt(blob: Buffer, context: Context): Buffer {
    const header = blob.subarray(0, HEADER_BYTES);
    const material = this.materials.find(({ id }) => id === header.subarray(17).toString("hex"));
    if (!material || blob.length < HEADER_BYTES + NONCE_BYTES + TAG_BYTES) throw invalidCiphertext();
    const sealed = blob.subarray(HEADER_BYTES + NONCE_BYTES);
    const nonce = blob.subarray(HEADER_BYTES, HEADER_BYTES + NONCE_BYTES);
    const decipher = createDecipheriv("aes-256-gcm", material.key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(additionalData(header, context)).setAuthTag(sealed.subarray(-TAG_BYTES));
    try {
      return Buffer.concat([decipher.update(sealed.subarray(0, -TAG_BYTES)), decipher.final()]);
    } catch {
      throw invalidCiphertext();
    }
  }
}

/** The key among `keys` that made the blob, by the metadata in it. @throws {AwsError} when it was none of them. */
export function makerOf(blob: Buffer, keys: Iterable<DoubleKey>): DoubleKey {
  for (const key of keys) if (blob[0] === 1 && blob.subarray(1, 17).equals(keyTag(key.arn))) return key;
  throw invalidCiphertext();
}

/** AWS gives no message with it. */
function invalidCiphertext(): AwsError {
  return new AwsError("InvalidCiphertextException", "");
}

function newMaterial(rotationType: Material["rotationType"]): Material {
  const rotationDate = rotationType === null ? null : Date.now();
  return { id: randomBytes(16).toString("hex"), key: randomBytes(32), rotationDate, rotationType };
}

function keyTag(arn: string): Buffer {
  return createHash("sha256").update(arn).digest().subarray(0, 16);
}

/** The same for the same pairs in any order, and for no others. */
function additionalData(header: Buffer, context: Context): Buffer {
  const pairs = Object.entries(context).sort(([a], [b]) => (a < b ? -1 : 1));
  return Buffer.concat([header, Buffer.from(JSON.stringify(pairs))]);
}
