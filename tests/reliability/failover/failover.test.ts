import { expect, test, onTestFinished } from "vitest";
import { setTimeout as sleep } from "node:timers/promises";
import { generateSecret } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import { freshFolder, spawnServer } from "../../server-process.ts";
import { Ledger } from "../ledger.ts";
import { FailoverLoad, longestPause } from "./load.ts";
import { PatroniCluster } from "./patroni.ts";
import { join } from "node:path";
import { writeFileSync, appendFileSync } from "node:fs";

const ROOT = "root-token-of-the-failover-test-0123456789";
test("try", { timeout: 600_000 }, async () => {
  const cluster = await PatroniCluster.start();
  onTestFinished(() => cluster.stop());
  const folder = await freshFolder();
  const secret = generateSecret();
  const { leader } = await cluster.settled();
  await cluster.query(leader, "create database t");
  const keyring = join(folder, "keyring.json");
  const start = (n: number) =>
    spawnServer({
      dataDir: join(folder, `data-${n}`),
      rootToken: ROOT,
      env: { TACENDA_DATABASE_URL: cluster.url("t"), TACENDA_KEYRING: keyring },
    });
  const servers = [await start(1), await start(2)];
  await new TacendaAdmin({ url: servers[0]!.url, token: ROOT }).stores.create("s");
  const ledger = new Ledger();
  const load = new FailoverLoad(
    servers.map(({ url }) => ({ url, token: ROOT, store: "s", secret })),
    ledger,
  );
  const log = (o: unknown) => appendFileSync("/tmp/failover.log", JSON.stringify(o) + "\n");
  const snap = () => ({
    acked: ledger.acknowledged,
    errs: [...load.retryable],
    faults: load.faults.length,
    first: load.faults.slice(0, 5),
    slow: load.slowest,
  });
  const afterwards = async (begin: number, what: string) => {
    await cluster.until("acks", async () =>
      load.acknowledged.every(
        (t) => t.filter((x) => x > begin + 1000).length > 100 && performance.now() - t[0]! > 5000,
      ) && load.readiness.every((r) => r.at(-1)!.status === 200)
        ? true
        : null,
    );
    const end = performance.now();
    log({
      what,
      gap: load.acknowledged.map((t) => longestPause(t, begin, end)),
      readGap: load.read.map((t) => longestPause(t, begin, end)),
      notReady: load.readiness.map((r) => r.filter((x) => x.at > begin && x.status !== 200).length),
      ...snap(),
    });
  };
  for (const what of (process.env.WHAT ?? "kill,switch,freeze").split(",")) {
    const { leader, standby } = await cluster.settled();
    await sleep(3000);
    const begin = performance.now();
    log({ begin: what, ...snap() });
    if (what === "kill") {
      await cluster.kill(leader);
      await afterwards(begin, what);
      cluster.restart(leader);
    } else if (what === "switch") {
      await cluster.switchover(leader, standby);
      await afterwards(begin, what);
    } else if (what === "freeze") {
      cluster.freeze(leader);
      await afterwards(begin, what);
      await sleep(5000);
      const b = performance.now();
      cluster.thaw(leader);
      await sleep(5000);
      await afterwards(b, "thaw");
    }
  }
  await cluster.settled();
  await load.stop();
  const audit = await ledger.audit(servers[0]!.url, ROOT);
  log({ audit, ...snap() });
  for (const [i, s] of servers.entries()) writeFileSync(`/tmp/failover-server-${i}.log`, s.output());
  const now = await cluster.settled();
  log(
    await cluster.query(
      now.leader,
      "select application_name, state, wait_event, count(*) from pg_stat_activity where datname='t' group by 1,2,3",
    ),
  );
});
