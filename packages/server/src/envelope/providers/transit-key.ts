/** What a transit engine says of a key, and whether the key is fit to wrap with; spec/envelope.md § Transit. */

import { z } from "zod";

import { KeyProviderError, type MasterKeyVersion } from "../key-provider.js";
import type { TransitClient } from "./transit-client.js";

/** A key that is rotated every hour gets here in a century; it bounds what a wrong answer makes us do. */
const MAX_VERSION = 1_000_000;
/** Some 60,000 versions. */
const LIMIT = 1024 * 1024;
const SECOND = 1000;
const FRESH = 3 * SECOND;

const version = z.int().min(1).max(MAX_VERSION);
/** 0 means that it was never set. */
const minimum = z.int().min(0).max(MAX_VERSION);

const keySchema = z
  .object({
    data: z.object({
      type: z.string().max(100),
      derived: z.boolean(),
      convergent_encryption: z.boolean().optional(),
      exportable: z.boolean(),
      allow_plaintext_backup: z.boolean(),
      soft_deleted: z.boolean().optional(),
      imported_key: z.boolean().optional(),
      imported_key_allow_rotation: z.boolean().optional(),
      latest_version: version,
      min_decryption_version: minimum,
      min_encryption_version: minimum,
      min_available_version: minimum.optional(),
      /** Unix seconds for symmetric keys. Versions below min_decryption_version are not listed. */
      keys: z.record(z.string().regex(/^[1-9]\d{0,6}$/), z.unknown()),
    }),
  })
  .refine(({ data }) => data.min_decryption_version <= data.latest_version)
  .refine(({ data }) => (data.min_available_version ?? 0) <= Math.max(1, data.min_decryption_version));

export type KeyDescription = z.infer<typeof keySchema>["data"];

/** A key as it was when it was last asked for, some seconds ago at most. */
export class TransitKey {
  readonly #client: TransitClient;
  #known: { key: KeyDescription; at: number } | null = null;
  /** Goes up with every change, so that no answer from before one is kept. */
  #changes = 0;

  constructor(client: TransitClient) {
    this.#client = client;
  }

  /** @throws {KeyProviderError} */
  async describe({ fresh = false }: { fresh?: boolean } = {}): Promise<KeyDescription> {
    if (!fresh && this.#known && performance.now() - this.#known.at < FRESH) return this.#known.key;
    const path = `keys/${this.#client.name}`;
    const changes = this.#changes;
    const { data } = await this.#client.call({ method: "GET", path, answer: keySchema, limit: LIMIT });
    if (changes === this.#changes) this.#known = { key: data, at: performance.now() };
    return data;
  }

  /**
   * The key, which is fit to wrap with. Asked before every wrap: to a policy that allows it, a key that is missing would be
   * made by the first encryption.
   * @throws {KeyProviderError} `unavailable` when it is not fit; it says why.
   */
  async describeFit(options?: { fresh?: boolean }): Promise<KeyDescription> {
    const key = await this.describe(options);
    const fault = unfitness(key);
    if (fault !== null) {
      throw new KeyProviderError("unavailable", `The key ${this.#client.id} is not fit for store keys: ${fault}`);
    }
    return key;
  }

  /** Changes the key and describes it as it is then. @throws {KeyProviderError} */
  async change(action: "rotate" | "config" | "trim", body: Record<string, number> = {}): Promise<KeyDescription> {
    try {
      await this.#client.call({
        method: "POST",
        path: `keys/${this.#client.name}/${action}`,
        body,
        // A second rotation would make a version that nobody asked for.
        repeatable: action !== "rotate",
        // Newer servers describe the key here, older ones answer 204: it is asked for in either case.
        answer: z.unknown(),
        limit: LIMIT,
        badRequest: ({ errors }) => this.#client.unavailable(`was not changed: ${quotable(errors)}`),
      });
    } finally {
      // Without an answer it may have happened all the same.
      this.#changes++;
      this.#known = null;
    }
    return await this.describe({ fresh: true });
  }

  /** What was seen elsewhere: a version that is later than the one known. */
  noteVersion(masterVersion: number): void {
    if (this.#known && masterVersion > this.#known.key.latest_version) this.#known = null;
  }
}

/** The state of a version that is there or was. */
export function stateOf(key: KeyDescription, masterVersion: number): MasterKeyVersion["state"] {
  if (masterVersion < (key.min_available_version ?? 0)) return "destroyed";
  return masterVersion < key.min_decryption_version ? "retired" : "enabled";
}

/** All versions, ascending. */
export function versionsOf(key: KeyDescription): MasterKeyVersion[] {
  return Array.from({ length: key.latest_version }, (_, index) => {
    const time = key.keys[index + 1];
    const createdAt = typeof time === "number" && time > 0 && Number.isSafeInteger(time) ? time * SECOND : null;
    return { version: index + 1, createdAt, state: stateOf(key, index + 1) };
  });
}

/** Why store keys must not be wrapped with the key, or null. */
function unfitness(key: KeyDescription): string | null {
  const another = "Make another key with: type=aes256-gcm96 derived=true";
  if (key.type !== "aes256-gcm96") return `its type is not aes256-gcm96. ${another}`;
  if (!key.derived) return `it is not derived, so that nothing would bind a wrap to its store. ${another}`;
  if (key.convergent_encryption === true) return `its encryption is convergent, which tells equal keys. ${another}`;
  if (key.soft_deleted === true) return "it is soft-deleted. Restore it with: keys/NAME/soft-delete-restore";
  // Neither can be taken back.
  if (key.exportable) return `it is exportable, so that master keys can leave the engine. ${another}`;
  if (key.allow_plaintext_backup) return `it allows backups in plain text, which hold master keys. ${another}`;
  return null;
}

/** What the server says of a call that took no key along. */
function quotable(errors: readonly string[]): string {
  const text = errors.join("; ");
  return /^[\x20-\x7e]{1,300}$/.test(text) ? `${text}.` : "see the audit log of the server.";
}
