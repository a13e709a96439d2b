/** The known answers of spec/vectors that the SDK's public calls can be held to; spec/vectors/README.md § Types. */

/** Text as it is, or bytes as hex. */
export type TextOrHex = { text: string } | { hex: string };

interface DeriveInput {
  project: string;
  store: string;
  secret: TextOrHex;
  key: string;
  iterations: number;
  stretch: "key" | "store";
  allowWeakSecret?: boolean;
}

interface Refused {
  error: string;
}

export interface DeriveCase {
  type: "derive";
  name: string;
  input: DeriveInput;
  expected: { keyHash: string } | Refused;
}

export interface RecordCase {
  type: "record";
  name: string;
  input: DeriveInput & {
    version: number;
    state: number;
    expiresAt: number;
    sealedAt: number;
    metadata: string;
    value: TextOrHex;
  };
  expected: { keyHash: string; record: string };
}

export interface GeneratedSecretCase {
  type: "generated-secret";
  name: string;
  input: { text: string };
  expected: { valid: boolean };
}

export type VectorCase = DeriveCase | RecordCase | GeneratedSecretCase;
