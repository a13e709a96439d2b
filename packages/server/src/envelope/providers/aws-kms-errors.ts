/** What the failures of AWS KMS mean and what to do about them; spec/envelope.md § AWS KMS. */

import { KeyProviderError, type KeyProviderFault } from "../key-provider.js";
import { refusedWrap } from "./wrap-format.js";

/** The operations in use, with the permissions that they need. */
const PERMISSIONS = {
  Encrypt: "kms:Encrypt",
  Decrypt: "kms:Decrypt",
  ReEncrypt: "kms:ReEncryptFrom and kms:ReEncryptTo",
  ListKeyRotations: "kms:ListKeyRotations",
  DescribeKey: "kms:DescribeKey",
  GetKeyRotationStatus: "kms:GetKeyRotationStatus",
  RotateKeyOnDemand: "kms:RotateKeyOnDemand",
} as const;

export type Operation = keyof typeof PERMISSIONS;

/** Somebody must do something before it can work again; then it does so by itself. By error, or operation and error. */
const REFUSALS: Record<string, string> = {
  DisabledException: "is disabled: enable it, if it is to be used.",
  KMSInvalidStateException:
    "is in a state in which it cannot be used: if its deletion is pending, cancel that and enable it; if its key material " +
    "has expired or was deleted, import it again; if it is in a custom key store, connect that.",
  NotFoundException: "is not there: it was deleted, or its ARN is wrong, or the endpoint is in another Region.",
  InvalidArnException: "is not known by this ARN: check it.",
  InvalidKeyUsageException: "cannot encrypt and decrypt: use a symmetric encryption key (SYMMETRIC_DEFAULT).",
  UnsupportedOperationException:
    "is of a kind that has no rotations: use a symmetric encryption key (SYMMETRIC_DEFAULT) outside custom key stores.",
  "RotateKeyOnDemand UnsupportedOperationException":
    "cannot be rotated on demand: for a replica of a multi-Region key rotate its primary key; for imported key material " +
    "import the next one first.",
  "RotateKeyOnDemand LimitExceededException":
    "has no on-demand rotations left: move to another key with `tacenda-server keys migrate`.",
  ValidationException: "was asked for something that AWS does not take: is the endpoint that of AWS KMS?",
};

/** It may pass by itself, or when credentials are renewed. */
const OUTAGES: Record<string, string> = {
  ThrottlingException: "is asked too often: wait, or have the account's request quota raised.",
  LimitExceededException: "has met a quota of the account: wait, or have it raised.",
  ConflictException: "is being rotated by AWS, or will be within 20 minutes: try again after that.",
  KMSInternalException: "is unavailable, for AWS KMS failed: try again later.",
  DependencyTimeoutException: "is unavailable, for AWS KMS timed out: try again later.",
  KeyUnavailableException: "is unavailable at AWS at the moment: try again later.",
  CredentialsProviderError:
    "cannot be used, for no AWS credentials are to be had: give the machine a role, or name a profile, or set " +
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
  ExpiredTokenException: "cannot be used, for the AWS credentials have expired: renew them.",
};

/** The names by which AWS refuses credentials. The last line is of STS and SSO, which give temporary ones out. */
const CREDENTIALS_REFUSED = new Set([
  ...["UnrecognizedClientException", "InvalidClientTokenId", "MissingAuthenticationTokenException", "OptInRequired"],
  ...["InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignatureException", "RequestExpired"],
  ...["AccessDenied", "InvalidIdentityToken", "UnauthorizedException", "TokenProviderError"],
]);

/** The wrap's own fault. */
const WRAP_REFUSED = new Set(["InvalidCiphertextException", "IncorrectKeyException"]);

/** What `operation` on the key failed with, in the terms of key providers. */
export function toKeyProviderError(
  error: unknown,
  operation: Operation,
  key: { id: string; arn: string },
): KeyProviderError {
  if (error instanceof KeyProviderError) return error;
  const cause = causeOf(error);
  if (WRAP_REFUSED.has(cause.name)) return refusedWrap(key.id, { cause });
  const [fault, advice] = meaningOf(cause.name, operation);
  return new KeyProviderError(fault, `The AWS KMS key ${key.arn} ${advice} (${operation}: ${cause.name})`, { cause });
}

function meaningOf(name: string, operation: Operation): [fault: KeyProviderFault, advice: string] {
  if (name === "AccessDeniedException") {
    const advice =
      `is not for this server to use: allow ${PERMISSIONS[operation]} in the policy of the server's role and in the key's ` +
      "own policy. The key must be in the account of the server's credentials.";
    return ["unavailable", advice];
  }
  const refusal = REFUSALS[`${operation} ${name}`] ?? REFUSALS[name];
  if (refusal !== undefined) return ["unavailable", refusal];
  if (CREDENTIALS_REFUSED.has(name)) {
    const advice =
      "cannot be used, for AWS does not take this server's credentials: renew them, and check the server's clock and the " +
      "Region of the endpoint.";
    return ["unavailable", advice];
  }
  const unreachable = "cannot be reached: check the network, the endpoint and the state of AWS KMS in its Region.";
  return ["unavailable", OUTAGES[name] ?? unreachable];
}

/** What is worth knowing of an error, and no more: those of the SDK can carry a whole answer, and so a store key. */
function causeOf(error: unknown): Error {
  const cause = new Error();
  if (!(error instanceof Error)) return cause;
  // By their names, errors of sockets are no more than an "Error".
  const code = "code" in error && typeof error.code === "string" ? error.code : "Error";
  const name = error.name === "Error" ? code : error.name;
  if (/^\w{1,80}$/.test(name)) cause.name = name;
  // Only what AWS itself answered as an error: parsers quote what they cannot read.
  if (isRefusalByAws(error)) cause.message = error.message;
  return cause;
}

function isRefusalByAws(error: Error): boolean {
  if (!("$metadata" in error) || typeof error.$metadata !== "object" || error.$metadata === null) return false;
  const { httpStatusCode } = error.$metadata as { httpStatusCode?: unknown };
  return typeof httpStatusCode === "number" && httpStatusCode >= 400;
}
