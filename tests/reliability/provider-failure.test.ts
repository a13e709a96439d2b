/**
 * A key provider that is down, slow, throttled, sealed or without its keys: cached stores are read for the time of grace, all
 * else fails closed and soon, and everything is back by itself when the provider is. On the transit engine's double and SoftHSM.
 * TACENDA_PROVIDER_FAILURES=all has every failure tried on PostgreSQL too.
 */

import { describe, expect, onTestFinished, test } from "vitest";

import { PIN, SoftHsm, hasSoftHsm } from "../../packages/server/test/envelope/providers/softhsm.js";
import { DoubleKey } from "../../packages/server/test/envelope/providers/transit-double-key.js";
import { TransitDouble, leastPolicy } from "../../packages/server/test/envelope/providers/transit-double.js";
import { seedServer } from "../seeded-server.ts";
import { freshFolder } from "../server-process.ts";
import { DATABASES, type DatabaseName } from "./databases.ts";
import { tryFailure, type Provider } from "./provider-trial.ts";
import { reportBug, reportTrials } from "./report.ts";
import { GRACE_WITHOUT_END, WRITES_WITH_OLD_KEYS } from "./seeded-bugs.ts";

const KEY = "tacenda";

type Failure = (double: TransitDouble) => Pick<Provider, "begin" | "end" | "isOther">;

/** What the engine does instead of its work, for as long as it fails. */
const instead =
  (answer: ReturnType<TransitDouble["instead"]>): Failure =>
  (double) => ({
    begin: () => void (double.instead = () => answer),
    end: () => void (double.instead = () => undefined),
  });

const FAILURES: Readonly<Record<string, Failure>> = {
  down: (double) => ({ begin: () => double.stop(), end: () => double.listen() }),
  "without an answer": (double) => ({
    begin: () => void (double.stalls = true),
    end: () => void (double.stalls = false),
  }),
  "dropping connections": instead(null),
  throttled: instead({
    status: 429,
    body: '{"errors":["rate limit quota exceeded"]}',
    headers: { "Retry-After": "1" },
  }),
  sealed: (double) => ({ begin: () => void (double.state = "sealed"), end: () => void (double.state = "active") }),
  "without the key": (double) => {
    const key = double.keys.get(KEY) ?? expect.unreachable();
    return { begin: () => void double.keys.delete(KEY), end: () => void double.keys.set(KEY, key) };
  },
  "with another key of that name": (double) => {
    const key = double.keys.get(KEY) ?? expect.unreachable();
    return {
      begin: () => void double.keys.set(KEY, new DoubleKey(KEY)),
      end: () => void double.keys.set(KEY, key),
      isOther: true,
    };
  },
};

async function openTransit(failure: Failure): Promise<Provider> {
  const double = await TransitDouble.start();
  onTestFinished(() => double.stop());
  double.createKey(KEY);
  const token = double.createToken({ policy: leastPolicy("transit", KEY) });
  return {
    uri: `transit:${double.url}/transit/keys/${KEY}`,
    env: { TACENDA_TRANSIT_TOKEN: token },
    ...failure(double),
  };
}

/** Which of them are tried on which database: nothing of what a provider does depends on it. */
const TRIED: Readonly<Record<DatabaseName, readonly string[]>> = {
  SQLite: Object.keys(FAILURES),
  PostgreSQL:
    process.env.TACENDA_PROVIDER_FAILURES === "all" ? Object.keys(FAILURES) : ["down", "with another key of that name"],
};

describe("a key provider", { timeout: 120_000 }, () => {
  const subject = { id: "R12", test: "key provider away, slow or with other keys" } as const;

  test.each(DATABASES)("that fails is survived in every way of failing, on %s", async (database) => {
    // All at once: each trial waits most of its time.
    const trials = TRIED[database].map(async (name) => {
      const provider = await openTransit(FAILURES[name] ?? expect.unreachable());
      return [name, await tryFailure(provider, database)] as const;
    });
    const done = Object.fromEntries(await Promise.all(trials));
    console.table(Object.fromEntries(Object.entries(done).map(([name, { longest }]) => [name, longest])));
    const violations = Object.values(done).flatMap(({ faults }) => faults).length;
    reportTrials({ ...subject, database, trials: trials.length, unit: "failures", losses: 0, violations });
    for (const [name, { faults }] of Object.entries(done)) expect(faults, name).toEqual([]);
  });

  test("this machine has SoftHSM and pkcs11js", (context) => {
    if (!hasSoftHsm && process.env.CI === undefined) context.skip("run node scripts/install-hsm.mjs to check");
    expect(hasSoftHsm, "scripts/install-hsm.mjs must have run where CI is set").toBe(true);
  });

  if (hasSoftHsm) {
    test("that is a token and taken away is survived", async () => {
      const hsm = await SoftHsm.create("away");
      onTestFinished(() => hsm.remove());
      const env = { TACENDA_PKCS11_PIN: PIN, SOFTHSM2_CONF: hsm.path("softhsm2.conf") };
      const provider = { uri: hsm.uri("away"), env, begin: () => hsm.takeAway(), end: () => hsm.bringBack() };
      const { faults, longest } = await tryFailure(provider, "SQLite");
      console.log(longest);
      const row = { id: "R12", test: "hardware token taken away", database: "SQLite" } as const;
      reportTrials({ ...row, trials: 1, unit: "failures", losses: 0, violations: faults.length });
      expect(faults).toEqual([]);
    });
  }

  test.each([
    ["writes under keys whose time is over", WRITES_WITH_OLD_KEYS, "a write succeeded"],
    ["a time of grace without end", GRACE_WITHOUT_END, "a read after the time of grace succeeded"],
  ])("this suite catches %s", async (bug, edit, fault) => {
    const bin = await seedServer(await freshFolder(), [edit]);
    const provider = await openTransit(FAILURES.down ?? expect.unreachable());
    const { faults } = await tryFailure(provider, "SQLite", bin);
    reportBug({ ...subject, database: "SQLite", bug, caught: faults.includes(fault) });
    expect(faults).toContain(fault);
  });
});
