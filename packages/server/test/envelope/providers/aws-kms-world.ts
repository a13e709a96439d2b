/** A double of AWS KMS with keys, and the credentials for it in the environment, where the SDK's own chain looks for them. */

import { vi } from "vitest";

import { AwsKmsDouble } from "./aws-kms-double.js";

export const REGION = "eu-central-1";
export const CREDENTIALS = {
  accessKeyId: "AKIAIOSFODNN7EXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
  sessionToken: "AQoDYXdzEPT//////////wEXAMPLE",
};

export async function startDouble(): Promise<AwsKmsDouble> {
  vi.stubEnv("AWS_ACCESS_KEY_ID", CREDENTIALS.accessKeyId);
  vi.stubEnv("AWS_SECRET_ACCESS_KEY", CREDENTIALS.secretAccessKey);
  vi.stubEnv("AWS_SESSION_TOKEN", CREDENTIALS.sessionToken);
  vi.stubEnv("AWS_EC2_METADATA_DISABLED", "true");
  const kms = new AwsKmsDouble(CREDENTIALS, REGION);
  await kms.start();
  return kms;
}

export async function removeDouble(kms: AwsKmsDouble): Promise<void> {
  vi.unstubAllEnvs();
  await kms.remove();
}

export function uriOf(kms: AwsKmsDouble, { arn }: { arn: string }): string {
  return `aws-kms:${arn}?endpoint=${kms.endpoint}`;
}
