/** The objects on a token that are master keys: finding, judging, making and using them; spec/envelope.md § Hardware tokens. */

import { randomBytes } from "node:crypto";

import { CK, nameOf, returnValueOf, toBoolean, toNumber, type Handle } from "./pkcs11-cryptoki.ts";
import { TokenFailure, type TokenSession } from "./pkcs11-session.ts";

/** One object with the label of the master keys. */
export interface MasterKeyObject {
  handle: Handle;
  /** Null when its CKA_ID is no version. */
  version: number | null;
  /** Milliseconds since the epoch; null when the token does not tell. */
  createdAt: number | null;
  /** What is wrong with it as a master key, or null. A wrong one is used for nothing. */
  wrong: string | null;
  /** Whether it may decrypt, and whether it may encrypt too. */
  opens: boolean;
  seals: boolean;
}

/** What AES-GCM takes besides key and data. */
export interface GcmInput {
  nonce: Uint8Array;
  additionalData: Uint8Array;
}

export const MAX_VERSION = 0xffff_ffff;

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const MAX_OBJECTS = 1000;

const DOES_NOT_OPEN: ReadonlySet<number | undefined> = new Set([
  CK.CKR_AEAD_DECRYPT_FAILED,
  CK.CKR_ENCRYPTED_DATA_INVALID,
  CK.CKR_ENCRYPTED_DATA_LEN_RANGE,
  CK.CKR_DATA_INVALID,
  CK.CKR_DATA_LEN_RANGE,
  CK.CKR_SIGNATURE_INVALID,
]);

/** Some tokens say no more than this of a tag that does not verify; SoftHSM is one. */
const SAYS_NOTHING: ReadonlySet<number | undefined> = new Set([CK.CKR_GENERAL_ERROR, CK.CKR_FUNCTION_FAILED]);

const REFUSES_CHANGE: ReadonlySet<number | undefined> = new Set([
  CK.CKR_ATTRIBUTE_READ_ONLY,
  CK.CKR_ACTION_PROHIBITED,
  CK.CKR_FUNCTION_NOT_SUPPORTED,
  CK.CKR_SESSION_READ_ONLY,
  CK.CKR_TEMPLATE_INCONSISTENT,
  CK.CKR_TOKEN_WRITE_PROTECTED,
]);

/** All secret keys with the label, whatever they are. */
export function findObjects(token: TokenSession, label: string): MasterKeyObject[] {
  const { cryptoki, session } = token;
  cryptoki.C_FindObjectsInit(session, [
    { type: CK.CKA_CLASS, value: CK.CKO_SECRET_KEY },
    { type: CK.CKA_LABEL, value: label },
  ]);
  const handles = cryptoki.C_FindObjects(session, MAX_OBJECTS);
  cryptoki.C_FindObjectsFinal(session);
  return handles.map((handle) => inspect(token, handle));
}

/** Makes a master key that never leaves the token and does nothing but encrypt and decrypt. */
export function generateKey({ cryptoki, session }: TokenSession, label: string, version: number): void {
  const id = Buffer.alloc(4);
  id.writeUInt32BE(version);
  const today = new Date().toISOString().slice(0, 10).replaceAll("-", "");
  cryptoki.C_GenerateKey(session, { mechanism: CK.CKM_AES_KEY_GEN, parameter: null }, [
    { type: CK.CKA_CLASS, value: CK.CKO_SECRET_KEY },
    { type: CK.CKA_KEY_TYPE, value: CK.CKK_AES },
    { type: CK.CKA_VALUE_LEN, value: KEY_BYTES },
    { type: CK.CKA_LABEL, value: label },
    { type: CK.CKA_ID, value: id },
    { type: CK.CKA_START_DATE, value: Buffer.from(today) },
    { type: CK.CKA_TOKEN, value: true },
    { type: CK.CKA_PRIVATE, value: true },
    { type: CK.CKA_SENSITIVE, value: true },
    { type: CK.CKA_EXTRACTABLE, value: false },
    { type: CK.CKA_ENCRYPT, value: true },
    { type: CK.CKA_DECRYPT, value: true },
    { type: CK.CKA_WRAP, value: false },
    { type: CK.CKA_UNWRAP, value: false },
    { type: CK.CKA_SIGN, value: false },
    { type: CK.CKA_VERIFY, value: false },
    { type: CK.CKA_DERIVE, value: false },
  ]);
}

/** Lets an object encrypt and decrypt, or not. */
export function setEnabled({ cryptoki, session }: TokenSession, { handle }: MasterKeyObject, isEnabled: boolean): void {
  changing("CKA_ENCRYPT and CKA_DECRYPT of it be changed", () =>
    cryptoki.C_SetAttributeValue(session, handle, [
      { type: CK.CKA_ENCRYPT, value: isEnabled },
      { type: CK.CKA_DECRYPT, value: isEnabled },
    ]),
  );
}

/** Destroys an object, for good. */
export function destroyObject({ cryptoki, session }: TokenSession, { handle }: MasterKeyObject): void {
  changing("it be destroyed", () => cryptoki.C_DestroyObject(session, handle));
}

/**
 * Ciphertext and tag. It was seen to open: some tokens take a nonce of their own instead of the one they are given, and what they
 * sealed would be lost.
 */
export function encrypt(token: TokenSession, key: MasterKeyObject, input: GcmInput, data: Uint8Array): Buffer {
  const { cryptoki, session } = token;
  cryptoki.C_EncryptInit(session, gcm(token, input), key.handle);
  // Room for a nonce that the token adds.
  const sealed = cryptoki.C_Encrypt(session, Buffer.from(data), Buffer.alloc(data.length + TAG_BYTES + 64));
  if (sealed.length === data.length + TAG_BYTES) {
    cryptoki.C_DecryptInit(session, gcm(token, input), key.handle);
    const opened = cryptoki.C_Decrypt(session, sealed, Buffer.alloc(sealed.length));
    if (opened.equals(data)) return sealed;
  }
  throw new TokenFailure("lost", "The token does AES-GCM with nonces of its own only: it cannot hold master keys.");
}

/** What was encrypted; null when it does not verify under this key. */
export function decrypt(token: TokenSession, key: MasterKeyObject, input: GcmInput, sealed: Uint8Array): Buffer | null {
  const { cryptoki, session } = token;
  cryptoki.C_DecryptInit(session, gcm(token, input), key.handle);
  try {
    return cryptoki.C_Decrypt(session, Buffer.from(sealed), Buffer.alloc(sealed.length));
  } catch (error) {
    const code = returnValueOf(error);
    if (DOES_NOT_OPEN.has(code)) return null;
    if (!SAYS_NOTHING.has(code) || !key.seals) throw error;
    // When it seals and opens something else, what it did not open before was at fault, not the token.
    encrypt(
      token,
      key,
      { nonce: randomBytes(NONCE_BYTES), additionalData: Buffer.from("probe") },
      randomBytes(KEY_BYTES),
    );
    return null;
  }
}

function gcm({ gcmParameters }: TokenSession, { nonce, additionalData }: GcmInput) {
  return {
    mechanism: CK.CKM_AES_GCM,
    parameter: {
      type: gcmParameters,
      iv: Buffer.from(nonce),
      ivBits: NONCE_BYTES * 8,
      aad: Buffer.from(additionalData),
      tagBits: TAG_BYTES * 8,
    },
  };
}

function inspect(token: TokenSession, handle: Handle): MasterKeyObject {
  const types = [
    CK.CKA_ID,
    CK.CKA_KEY_TYPE,
    CK.CKA_VALUE_LEN,
    CK.CKA_PRIVATE,
    CK.CKA_SENSITIVE,
    CK.CKA_EXTRACTABLE,
    CK.CKA_ENCRYPT,
    CK.CKA_DECRYPT,
  ];
  const { cryptoki, session } = token;
  const values = cryptoki.C_GetAttributeValue(
    session,
    handle,
    types.map((type) => ({ type })),
  );
  const attributes = new Map(values.map(({ type, value }) => [type, value]));
  const is = (type: number) => toBoolean(attributes.get(type));
  const number = (type: number) => toNumber(attributes.get(type));

  const id = attributes.get(CK.CKA_ID);
  const version = id?.length === 4 && id.readUInt32BE() > 0 ? id.readUInt32BE() : null;
  let wrong: string | null = null;
  if (version === null) wrong = "its CKA_ID is no version of 4 bytes";
  else if (number(CK.CKA_KEY_TYPE) !== CK.CKK_AES) wrong = "it is no AES key";
  else if (number(CK.CKA_VALUE_LEN) !== KEY_BYTES) wrong = "it has not 256 bits";
  else if (is(CK.CKA_EXTRACTABLE)) wrong = "it is extractable";
  else if (!is(CK.CKA_SENSITIVE)) wrong = "it is not sensitive";
  else if (!is(CK.CKA_PRIVATE)) wrong = "it is not private";

  const opens = wrong === null && is(CK.CKA_DECRYPT);
  const createdAt = wrong === null ? startDate(token, handle) : null;
  return { handle, version, createdAt, wrong, opens, seals: opens && is(CK.CKA_ENCRYPT) };
}

/** A token may keep no date, and SoftHSM 2.6 keeps it and cannot read it (softhsm/SoftHSMv2#804): nothing depends on it. */
function startDate({ cryptoki, session }: TokenSession, handle: Handle): number | null {
  try {
    const [date] = cryptoki.C_GetAttributeValue(session, handle, [{ type: CK.CKA_START_DATE }]);
    const [, year, month, day] = /^(\d{4})(\d\d)(\d\d)$/.exec(date?.value?.toString("latin1") ?? "") ?? [];
    return day === undefined ? null : Date.UTC(Number(year), Number(month) - 1, Number(day));
  } catch {
    return null;
  }
}

/** @throws {TokenFailure} that says what to do, when the token does not let its objects be changed. */
function changing(what: string, change: () => void): void {
  try {
    change();
  } catch (error) {
    if (!REFUSES_CHANGE.has(returnValueOf(error))) throw error;
    throw new TokenFailure(
      "refused",
      `The token does not let ${what} (${nameOf(error)}): do it with the tools of the token's maker. ` +
        "See docs/key-providers/pkcs11.md.",
    );
  }
}
