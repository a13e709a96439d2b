/**
 * The key provider contract on a double of AWS KMS, and on AWS itself when TACENDA_TEST_AWS_KMS_KEY and
 * TACENDA_TEST_AWS_KMS_OTHER_KEY name two keys there; docs/key-providers/aws-kms.md says what that costs.
 */

import { openKeyProvider } from "../../../src/envelope/open-key-provider.js";
import { openAt, removeDouble, startDouble, uriOf } from "./aws-kms-world.js";
import { providerContract } from "./contract.js";

const open = (uri: string) => openKeyProvider(uri, { environment: process.env, create: false });

const createDouble = async () => {
  const kms = await startDouble();
  const [key, other] = [kms.createKey(), kms.createKey()];
  return {
    open: () => open(uriOf(kms, key)),
    openOther: () => open(uriOf(kms, other)),
    outage: { begin: () => kms.stop(), end: () => kms.start() },
    remove: () => removeDouble(kms),
  };
};

providerContract("a double of AWS KMS", createDouble, { outageLimit: 10_000 });

const { TACENDA_TEST_AWS_KMS_KEY: key, TACENDA_TEST_AWS_KMS_OTHER_KEY: other } = process.env;
if (key !== undefined && other !== undefined) {
  // How long AWS takes for a rotation it does not say.
  const openReal = (arn: string) => Promise.resolve(openAt(`aws-kms:${arn}`, { wait: 240_000 }));
  providerContract("AWS KMS", () =>
    Promise.resolve({ open: () => openReal(key), openOther: () => openReal(other), remove: () => Promise.resolve() }),
  );
}
