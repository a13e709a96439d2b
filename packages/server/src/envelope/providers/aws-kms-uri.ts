/** Which key of AWS KMS a URI names; spec/envelope.md § AWS KMS. */

import { InvalidOptionError } from "../../startup-error.js";

export interface AwsKmsKey {
  /** The provider's id: the URI without its query. */
  id: string;
  arn: string;
  region: string;
  /** Where to ask instead of at the Region's own endpoint; null for there. */
  endpoint: string | null;
}

const SCHEME = "aws-kms:";
/** `mrk-` begins the ids of multi-Region keys. */
const KEY_ARN =
  /^arn:aws(?:-[a-z]+)*:kms:([a-z]+(?:-[a-z]+)+-\d{1,2}):\d{12}:key\/(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$/;

/** @throws {InvalidOptionError} that says what is wrong with it. */
export function parseAwsKmsUri(uri: string): AwsKmsKey {
  const [id = "", query, ...rest] = uri.split("?");
  const arn = id.slice(SCHEME.length);
  const region = KEY_ARN.exec(arn)?.[1];
  if (!id.startsWith(SCHEME) || region === undefined || rest.length > 0) throw new InvalidOptionError(adviceFor(arn));
  return { id, arn, region, endpoint: query === undefined ? null : endpointOf(query) };
}

function adviceFor(arn: string): string {
  const form = "aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID";
  // An alias can be pointed at another key by whoever may edit it, and then nothing that was wrapped opens any more.
  return /(?:^|:)alias\//.test(arn)
    ? `An alias of AWS KMS can be pointed at another key: name the key itself, as ${form}.`
    : `A key of AWS KMS is named by its whole ARN, as ${form}. \`aws kms describe-key\` shows it.`;
}

function endpointOf(query: string): string {
  const [name, value, ...others] = [...new URLSearchParams(query)].flat();
  if (name !== "endpoint" || value === undefined || others.length > 0) {
    throw new InvalidOptionError("The URI of a key of AWS KMS takes nothing in its query but endpoint=URL.");
  }
  const url = URL.parse(value);
  if (!url || !isSecure(url) || url.username + url.password + url.search + url.hash !== "" || url.pathname !== "/") {
    throw new InvalidOptionError(
      "The endpoint of AWS KMS must be https://HOST, with a port if need be and nothing else (http:// on loopback only).",
    );
  }
  return url.origin;
}

/** Whether store keys may travel there. */
export function isSecure({ protocol, hostname }: { protocol: string; hostname: string }): boolean {
  const isLoopback = /^(?:localhost|127(?:\.\d{1,3}){3}|\[?::1\]?)$/.test(hostname);
  return protocol === "https:" || (protocol === "http:" && isLoopback);
}
