/** The key provider contract on the transit double, and on real servers where their keys are named. */

import { openKeyProvider } from "../../../src/envelope/open-key-provider.js";
import { providerContract } from "./contract.js";
import { TransitDouble, leastPolicy } from "./transit-double.js";

providerContract(
  "a transit double",
  async () => {
    const double = await TransitDouble.start();
    const policy = { ...leastPolicy("transit", "one"), ...leastPolicy("transit", "other") };
    const token = double.createToken({ policy });
    const open = (name: string) =>
      openKeyProvider(`transit:${double.url}/transit/keys/${name}`, {
        environment: { TACENDA_TRANSIT_TOKEN: token },
        create: false,
      });
    for (const name of ["one", "other"]) double.createKey(name);
    return {
      open: () => open("one"),
      openOther: () => open("other"),
      outage: { begin: () => double.stop(), end: () => double.listen() },
      remove: () => double.stop(),
    };
  },
  { outageLimit: 5000, retiresInOrder: true },
);

const { TACENDA_TEST_TRANSIT_URI: uri, TACENDA_TEST_TRANSIT_OTHER_URI: otherUri } = process.env;
// Not registered rather than skipped, so that a skipped test is always a fault.
if (uri !== undefined && otherUri !== undefined) {
  const open = (one: string) => openKeyProvider(one, { environment: process.env, create: false });
  providerContract(
    "a transit server",
    () => Promise.resolve({ open: () => open(uri), openOther: () => open(otherUri), remove: () => Promise.resolve() }),
    { retiresInOrder: true },
  );
}
