/** Computes, with the reference, what each type of vector expects for an input; spec/vectors/README.md lists the types. */

import * as reference from "./reference.ts";
import { fromHex, outcome, toBytes, toHex, type TextOrHex } from "./vector.ts";

export interface DeriveInput {
  project: string;
  store: string;
  secret: TextOrHex;
  key: string;
  iterations: number;
  stretch: "key" | "store";
  allowWeakSecret?: boolean;
}

export interface PlaceInput {
  project: string;
  store: string;
  /** base64url, as it stands in a path. */
  keyHash: string;
  valueKey: string;
}

export interface ContentInput {
  version: number;
  state: number;
  expiresAt: number;
  kind: number;
  sealedAt: number;
  metadata: string;
  value: TextOrHex;
  salt: string;
}

export function place(input: PlaceInput): reference.Place {
  return {
    project: input.project,
    store: input.store,
    keyHash: Buffer.from(input.keyHash, "base64url"),
    valueKey: fromHex(input.valueKey),
  };
}

function deriveAnswer(input: DeriveInput) {
  const secret = "text" in input.secret ? input.secret.text : fromHex(input.secret.hex);
  const derived = reference.derive({ ...input, secret });
  return {
    secretHash: toHex(derived.secretHash),
    storeRoot: toHex(derived.storeRoot),
    root: toHex(derived.root),
    keyHash: derived.keyHash.toString("base64url"),
    valueKey: toHex(derived.valueKey),
    secretCheck: toHex(derived.secretCheck),
  };
}

function sealAnswer(input: PlaceInput & ContentInput) {
  const content = { ...input, value: toBytes(input.value) };
  const record = reference.seal(place(input), input.version, content, fromHex(input.salt));
  return { recordLength: record.length, recordSha256: toHex(reference.sha256(record)), record: toHex(record) };
}

/** From secret to sealed bytes, with the fields of the first six vectors. */
function recordAnswer(input: DeriveInput & ContentInput) {
  const { root, keyHash, valueKey, secretCheck } = deriveAnswer(input);
  return { root, keyHash, valueKey, secretCheck, ...sealAnswer({ ...input, keyHash, valueKey }) };
}

function openAnswer(input: PlaceInput & { version: number; record: string }) {
  const content = reference.open(place(input), input.version, fromHex(input.record));
  const value = content.kind === 0 ? { text: content.value.toString() } : { hex: toHex(content.value) };
  return { ...content, value };
}

function headAnswer(input: PlaceInput & { version: number; head: string }) {
  const { state, expiresAt, commitment } = reference.verifyHead(place(input), input.version, fromHex(input.head));
  return { state, expiresAt, commitment: toHex(commitment) };
}

interface StoredInput {
  project: string;
  store: string;
  recordId: string;
  version: number;
  dataKey: string;
  dataKeyVersion: number;
}

function storedPlace(input: StoredInput): reference.StoredPlace {
  return { ...input, recordId: fromHex(input.recordId), dataKey: fromHex(input.dataKey) };
}

function encloseAnswer(input: StoredInput & { record: string; salt: string; nonce: string }) {
  const [record, salt, nonce] = [fromHex(input.record), fromHex(input.salt), fromHex(input.nonce)];
  const stored = reference.encloseRecord(storedPlace(input), record, salt, nonce);
  return { subkey: toHex(reference.subkey(fromHex(input.dataKey), salt)), stored: toHex(stored) };
}

function wrapAnswer(
  input: reference.WrapPlace & { masterKey: string; masterVersion: number; storeKey: string; nonce: string },
) {
  const [masterKey, storeKey, nonce] = [fromHex(input.masterKey), fromHex(input.storeKey), fromHex(input.nonce)];
  return { wrap: toHex(reference.wrapKey(masterKey, input.masterVersion, input, storeKey, nonce)) };
}

function unwrapAnswer(input: reference.WrapPlace & { masterKey: string; masterVersion: number; wrap: string }) {
  const storeKey = reference.unwrapKey(fromHex(input.masterKey), input.masterVersion, input, fromHex(input.wrap));
  return { storeKey: toHex(storeKey) };
}

function attributesAnswer(input: Omit<reference.Attributes, "recordId"> & { indexKey: string; recordId: string }) {
  const record = { ...input, recordId: fromHex(input.recordId) };
  return { tag: toHex(reference.attributeTag(fromHex(input.indexKey), record)) };
}

/** The types of vectors. Each function throws `Refusal` where the specification refuses. */
const ANSWERS = {
  record: recordAnswer,
  derive: deriveAnswer,
  padding: (input: { length: number }) => ({ paddedLength: reference.paddedLength(input.length) }),
  seal: sealAnswer,
  open: openAnswer,
  head: headAnswer,
  "generated-secret": ({ text }: { text: string }) => ({ valid: reference.isGeneratedSecret(text) }),
  token: ({ text }: { text: string }) => ({
    valid: reference.isToken(text),
    digest: toHex(reference.sha256(text)),
  }),
  "record-id": (input: { indexKey: string; keyHash: string }) => ({
    recordId: toHex(reference.recordId(fromHex(input.indexKey), Buffer.from(input.keyHash, "base64url"))),
  }),
  enclose: encloseAnswer,
  disclose: (input: StoredInput & { stored: string }) => ({
    record: toHex(reference.discloseRecord(storedPlace(input), fromHex(input.stored))),
  }),
  attributes: attributesAnswer,
  "secret-check": (input: { indexKey: string; project: string; store: string; secretCheck: string }) => ({
    kept: toHex(
      reference.blindedCheck(fromHex(input.indexKey), input.project, input.store, fromHex(input.secretCheck)),
    ),
  }),
  wrap: wrapAnswer,
  unwrap: unwrapAnswer,
  "keyring-check": (input: { id: string; version: number; key: string }) => ({
    check: reference.keyringCheck(input.id, input.version, fromHex(input.key)).toString("base64url"),
  }),
  "keyring-file-check": (input: { id: string; current: number; keys: reference.KeyringLine[] }) => ({
    check: reference.keyringFileCheck(input.id, input.current, input.keys).toString("base64url"),
  }),
};

export type VectorType = keyof typeof ANSWERS;

export type VectorInput<Type extends VectorType> = Parameters<(typeof ANSWERS)[Type]>[0];

/** Whether there are vectors of this type. */
export function isVectorType(type: string): type is VectorType {
  return Object.hasOwn(ANSWERS, type);
}

/** What a vector of this type and input expects, refusals included. */
export function answer<Type extends VectorType>(type: Type, input: VectorInput<Type>): unknown {
  const compute = ANSWERS[type] as (input: VectorInput<Type>) => unknown;
  return outcome(() => compute(input));
}
