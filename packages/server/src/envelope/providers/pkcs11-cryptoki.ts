/** The part of PKCS#11 that is used here, by way of the optional package pkcs11js; spec/envelope.md § Hardware tokens. */

import { endianness } from "node:os";

/** Of a slot, a session or an object. */
export type Handle = Buffer;

export interface Attribute {
  type: number;
  value?: number | boolean | string | Buffer;
}

interface Mechanism {
  mechanism: number;
  parameter: null | { type: number; iv: Buffer; ivBits: number; aad: Buffer; tagBits: number };
}

/** A loaded module, as pkcs11js shows it. Calls block, and throw errors whose `code` is the CKR_ number. */
export interface Cryptoki {
  load(path: string): void;
  C_Initialize(): void;
  C_Finalize(): void;
  C_GetSlotList(tokenPresent: boolean): Handle[];
  C_GetTokenInfo(slot: Handle): { label: string; serialNumber: string; flags: number };
  C_GetMechanismList(slot: Handle): number[];
  C_OpenSession(slot: Handle, flags: number): Handle;
  C_GetSessionInfo(session: Handle): { state: number };
  C_Login(session: Handle, userType: number, pin: string): void;
  C_FindObjectsInit(session: Handle, template: Attribute[]): void;
  C_FindObjects(session: Handle, max: number): Handle[];
  C_FindObjectsFinal(session: Handle): void;
  C_GetAttributeValue(session: Handle, object: Handle, template: Attribute[]): { type: number; value?: Buffer }[];
  C_SetAttributeValue(session: Handle, object: Handle, template: Attribute[]): void;
  C_GenerateKey(session: Handle, mechanism: Mechanism, template: Attribute[]): Handle;
  C_DestroyObject(session: Handle, object: Handle): void;
  C_EncryptInit(session: Handle, mechanism: Mechanism, key: Handle): void;
  C_Encrypt(session: Handle, data: Buffer, output: Buffer): Buffer;
  C_DecryptInit(session: Handle, mechanism: Mechanism, key: Handle): void;
  C_Decrypt(session: Handle, data: Buffer, output: Buffer): Buffer;
}

/** What is used of the package itself. */
export interface Pkcs11js {
  PKCS11: new () => Cryptoki;
  /** How pkcs11js names CK_GCM_PARAMS of PKCS#11 2.40. */
  CK_PARAMS_AES_GCM_v240: number;
}

/** The numbers of the standard, by its names. */
export const CK = {
  CKU_USER: 1,
  CKS_RW_USER_FUNCTIONS: 3,
  CKF_RW_SESSION: 0x2,
  CKF_SERIAL_SESSION: 0x4,
  CKF_USER_PIN_FINAL_TRY: 0x20000,
  CKF_USER_PIN_LOCKED: 0x40000,
  CKO_SECRET_KEY: 0x4,
  CKK_AES: 0x1f,
  CKM_AES_KEY_GEN: 0x1080,
  CKM_AES_GCM: 0x1087,
  CKA_CLASS: 0x0,
  CKA_TOKEN: 0x1,
  CKA_PRIVATE: 0x2,
  CKA_LABEL: 0x3,
  CKA_VALUE: 0x11,
  CKA_KEY_TYPE: 0x100,
  CKA_ID: 0x102,
  CKA_SENSITIVE: 0x103,
  CKA_ENCRYPT: 0x104,
  CKA_DECRYPT: 0x105,
  CKA_WRAP: 0x106,
  CKA_UNWRAP: 0x107,
  CKA_SIGN: 0x108,
  CKA_VERIFY: 0x10a,
  CKA_DERIVE: 0x10c,
  CKA_START_DATE: 0x110,
  CKA_VALUE_LEN: 0x161,
  CKA_EXTRACTABLE: 0x162,
  CKR_GENERAL_ERROR: 0x5,
  CKR_FUNCTION_FAILED: 0x6,
  CKR_ATTRIBUTE_READ_ONLY: 0x10,
  CKR_ACTION_PROHIBITED: 0x1b,
  CKR_DATA_INVALID: 0x20,
  CKR_DATA_LEN_RANGE: 0x21,
  CKR_AEAD_DECRYPT_FAILED: 0x35,
  CKR_ENCRYPTED_DATA_INVALID: 0x40,
  CKR_ENCRYPTED_DATA_LEN_RANGE: 0x41,
  CKR_FUNCTION_NOT_SUPPORTED: 0x54,
  CKR_KEY_FUNCTION_NOT_PERMITTED: 0x68,
  CKR_PIN_INCORRECT: 0xa0,
  CKR_PIN_INVALID: 0xa1,
  CKR_PIN_LEN_RANGE: 0xa2,
  CKR_PIN_EXPIRED: 0xa3,
  CKR_PIN_LOCKED: 0xa4,
  CKR_SESSION_READ_ONLY: 0xb5,
  CKR_SIGNATURE_INVALID: 0xc0,
  CKR_TEMPLATE_INCONSISTENT: 0xd1,
  CKR_TOKEN_WRITE_PROTECTED: 0xe2,
  CKR_USER_ALREADY_LOGGED_IN: 0x100,
  CKR_USER_PIN_NOT_INITIALIZED: 0x102,
  CKR_CRYPTOKI_ALREADY_INITIALIZED: 0x191,
} as const;

/** Not taken for a literal: neither the package nor its types need be there when this is built. */
const PACKAGE = "pkcs11js" as string;

/** Finds the package where Node does from here, and from where the built server is. */
export async function importPkcs11js(): Promise<Pkcs11js> {
  const { default: pkcs11js } = (await import(PACKAGE)) as { default: Pkcs11js };
  return pkcs11js;
}

/** The CKR_ number of an error; undefined when it is none of the token's. */
export function returnValueOf(error: unknown): number | undefined {
  if (!(error instanceof Error)) return undefined;
  if ("code" in error && typeof error.code === "number") return error.code;
  // Some calls of pkcs11js throw what its native part throws: "CKR_DEVICE_ERROR:48".
  const number = /\bCKR_\w+:(\d+)/.exec(error.message)?.[1];
  return number === undefined ? undefined : Number(number);
}

/** The error in the standard's words, for instance `CKR_DEVICE_ERROR`. */
export function nameOf(error: unknown): string {
  const name = error instanceof Error ? /\bCKR_\w+/.exec(error.message)?.[0] : undefined;
  return name ?? `error ${returnValueOf(error) ?? "of an unknown kind"}`;
}

/** An attribute of the type CK_ULONG; null when it has no such length. */
export function toNumber(value: Buffer | undefined): number | null {
  if (value?.length !== 4 && value?.length !== 8) return null;
  const bytes = endianness() === "LE" ? Buffer.from(value).reverse() : value;
  return Number(BigInt(`0x${bytes.toString("hex")}`));
}

/** An attribute of the type CK_BBOOL. */
export function toBoolean(value: Buffer | undefined): boolean {
  return value?.[0] === 1;
}
