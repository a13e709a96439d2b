/** A double of AWS KMS with keys, and the credentials for it in the environment, where the SDK's own chain looks for them. */

import * as sdk from "@aws-sdk/client-kms";
import { expect, vi } from "vitest";

import { KeyProviderError } from "../../../src/envelope/key-provider.js";
import { openAwsKms, type AwsKms, type AwsKmsTimes } from "../../../src/envelope/providers/aws-kms.js";
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

const opened: AwsKms[] = [];

/** A provider that is closed when its double is removed. */
export function openAt(uri: string, times: Partial<AwsKmsTimes> = {}): AwsKms {
  const provider = openAwsKms(uri, sdk, times);
  opened.push(provider);
  return provider;
}

export async function removeDouble(kms: AwsKmsDouble): Promise<void> {
  for (const provider of opened.splice(0)) await provider.close();
  vi.unstubAllEnvs();
  await kms.remove();
}

export function uriOf(kms: AwsKmsDouble, { arn }: { arn: string }): string {
  return `aws-kms:${arn}?endpoint=${kms.endpoint}`;
}

/** What `work` fails with. */
export async function failure(work: Promise<unknown>): Promise<KeyProviderError> {
  const error: unknown = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(KeyProviderError);
  return error as KeyProviderError;
}
