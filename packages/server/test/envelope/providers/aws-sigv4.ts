/**
 * Verifies AWS Signature Version 4 by computing it anew, from the IAM User Guide ("Create a signed AWS API request") alone: the
 * double of AWS KMS asks it of every request.
 */

import { createHash, createHmac, timingSafeEqual } from "node:crypto";

export interface AwsCredentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
}

export interface SignedRequest {
  method: string;
  path: string;
  headers: Readonly<Record<string, string>>;
  body: Buffer;
}

/** "In most cases, a request must reach AWS within five minutes of the time stamp in the request." */
const MAX_SKEW = 5 * 60_000;
const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=([\w/-]+), ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/;
const DATE = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/;

/** The error that AWS would answer, by its name and message, or null when the signature is good. */
export function signatureFault(
  request: SignedRequest,
  credentials: AwsCredentials,
  { region, service, now }: { region: string; service: string; now: number },
): [name: string, message: string] | null {
  const { headers } = request;
  if (headers.authorization === undefined) {
    return ["MissingAuthenticationTokenException", "Missing Authentication Token"];
  }
  const [, credential = "", signedHeaders = "", signature = ""] = AUTHORIZATION.exec(headers.authorization) ?? [];
  const stamp = headers["x-amz-date"] ?? "";
  const time = DATE.exec(stamp);
  const names = signedHeaders.split(";");
  // What AWS wants signed in any case.
  const mustBeSigned = ["host", ...Object.keys(headers).filter((name) => name.startsWith("x-amz-"))];
  if (signature === "" || time === null || !mustBeSigned.every((name) => names.includes(name))) {
    return ["IncompleteSignatureException", "The request signature does not conform to AWS standards."];
  }
  const [keyId, day, ...scope] = credential.split("/");
  if (keyId !== credentials.accessKeyId || headers["x-amz-security-token"] !== credentials.sessionToken) {
    return ["UnrecognizedClientException", "The security token included in the request is invalid."];
  }
  if (day !== stamp.slice(0, 8) || scope.join("/") !== `${region}/${service}/aws4_request`) {
    return ["InvalidSignatureException", "Credential should be scoped to a valid region."];
  }
  const [year, month, date, hour, minute, second] = time.slice(1).map(Number) as [number, number, ...number[]];
  if (Math.abs(Date.UTC(year, month - 1, date, hour, minute, second) - now) > MAX_SKEW) {
    return ["InvalidSignatureException", `Signature expired: ${stamp} is not within 5 min. of now.`];
  }
  const expected = signatureOf(request, names, credentials.secretAccessKey, [day, ...scope]);
  if (timingSafeEqual(Buffer.from(signature, "hex"), expected)) return null;
  return [
    "InvalidSignatureException",
    "The request signature we calculated does not match the signature you provided.",
  ];
}

function signatureOf({ method, path, headers, body }: SignedRequest, names: string[], key: string, scope: string[]) {
  const lines = names.map((name) => `${name}:${(headers[name] ?? "").trim().replaceAll(/ +/g, " ")}\n`);
  const canonical = [method, path, "", lines.join(""), names.join(";"), sha256(body)].join("\n");
  const text = ["AWS4-HMAC-SHA256", headers["x-amz-date"], scope.join("/"), sha256(canonical)].join("\n");
  const signingKey = scope.reduce<Buffer>((by, part) => hmac(by, part), Buffer.from(`AWS4${key}`));
  return hmac(signingKey, text);
}

function sha256(data: string | Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}
