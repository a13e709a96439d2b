/**
 * A PostgreSQL that fails over by itself: etcd and two nodes under Patroni, from Debian's packages (scripts/install-failover.mjs), in
 * a folder and on ports of their own. docs/postgresql.md § Failover shows the same settings.
 */

import { execFile, execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { chown, mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

import pg from "pg";

import { freePort } from "../../postgres.ts";
import { killAllIn, processesIn, signal } from "./processes.ts";

const SCOPE = "tacenda";
const PASSWORD = "password-of-the-failover-test";
/** Milliseconds that anything of Patroni's may take: a base backup, an election, a rewind. */
const PATIENCE = 120_000;

/** Patroni's, in seconds: a leader that does not renew its lock within `ttl` has lost it; it tries every `loop_wait`. */
export const CLUSTER_SETTINGS = { ttl: 20, loop_wait: 2, retry_timeout: 5, synchronous_mode: true };

export interface Node {
  name: string;
  port: number;
  api: number;
  folder: string;
}

interface Member {
  name: string;
  role: "leader" | "sync_standby" | "replica";
  state: string;
}

/** Why the test cannot run here; null when it can. */
export function whyNot(): string | null {
  if (process.platform !== "linux") return "Patroni is started on Linux only";
  if (binaries() === null || ["patroni", "patronictl", "etcd"].some((name) => !existsSync(`/usr/bin/${name}`))) {
    return "PostgreSQL, Patroni and etcd are not installed: run node scripts/install-failover.mjs";
  }
  return null;
}

/** Debian's newest PostgreSQL here. */
function binaries(): string | null {
  const place = "/usr/lib/postgresql";
  const versions = existsSync(place) ? readdirSync(place).filter((name) => /^[0-9]+$/.test(name)) : [];
  const folders = versions.sort((a, b) => Number(b) - Number(a)).map((version) => join(place, version, "bin"));
  return folders.find((folder) => existsSync(join(folder, "postgres"))) ?? null;
}

/** PostgreSQL refuses to be run by root. */
function user(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
  return { uid: id("-u"), gid: id("-g") };
}

export class PatroniCluster {
  readonly #folder: string;
  readonly #keeper: ChildProcess;
  readonly nodes: readonly [Node, Node];
  #standby: Member["role"] = "sync_standby";

  private constructor(folder: string, keeper: ChildProcess, nodes: readonly [Node, Node]) {
    this.#folder = folder;
    this.#keeper = keeper;
    this.nodes = nodes;
  }

  /** Resolves when there is a leader, and a standby that commits wait for. */
  static async start(): Promise<PatroniCluster> {
    const folder = await mkdtemp(join(tmpdir(), "tacenda-failover-"));
    // A process group of its own: what ends this one does not end it.
    const keeper = spawn(process.execPath, [join(import.meta.dirname, "keeper.ts"), folder], {
      stdio: ["pipe", "inherit", "inherit"],
      detached: true,
    });
    const node = async (name: string): Promise<Node> => {
      return { name, port: await freePort(), api: await freePort(), folder: join(folder, name) };
    };
    const cluster = new PatroniCluster(folder, keeper, [await node("a"), await node("b")]);
    try {
      await cluster.#begin();
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  async #begin(): Promise<void> {
    const owner = user();
    const [clients, peers] = [await freePort(), await freePort()];
    const folders = ["etcd", ...this.nodes.map(({ name }) => name)].map((name) => join(this.#folder, name));
    for (const folder of folders) await mkdir(folder, { mode: 0o700 });
    for (const node of this.nodes) {
      await writeFile(join(node.folder, "patroni.yml"), JSON.stringify(settings(node, clients), null, 2));
    }
    if (owner !== undefined) for (const one of [this.#folder, ...folders]) await chown(one, owner.uid, owner.gid);
    const place = `http://127.0.0.1:${peers}`;
    this.#spawn("/usr/bin/etcd", join(this.#folder, "etcd"), [
      ...["--name", "one", "--data-dir", join(this.#folder, "etcd/data"), "--initial-cluster", `one=${place}`],
      ...[
        "--listen-client-urls",
        `http://127.0.0.1:${clients}`,
        "--advertise-client-urls",
        `http://127.0.0.1:${clients}`,
      ],
      ...["--listen-peer-urls", place, "--initial-advertise-peer-urls", place, "--unsafe-no-fsync"],
    ]);
    for (const node of this.nodes) this.restart(node);
    await this.settled();
  }

  #spawn(command: string, folder: string, args: readonly string[]): void {
    const child = spawn(command, args, { cwd: folder, stdio: "ignore", env: { PATH: process.env.PATH }, ...user() });
    child.on("error", () => undefined);
  }

  /** `postgres://…` that names both nodes. */
  url(database: string): string {
    const places = this.nodes.map(({ port }) => `127.0.0.1:${port}`).join();
    return `postgres://postgres:${PASSWORD}@${places}/${database}`;
  }

  /** One statement as an administrator, on a node. */
  async query<Row extends pg.QueryResultRow>({ port }: Node, text: string, database = "postgres"): Promise<Row[]> {
    const client = new pg.Client({ host: "127.0.0.1", port, user: "postgres", password: PASSWORD, database });
    await client.connect();
    try {
      return (await client.query<Row>(text)).rows;
    } finally {
      await client.end();
    }
  }

  /** The nodes as Patroni sees them, asked of whichever of its processes answers; none when none does. */
  async members(): Promise<Member[]> {
    for (const { api } of this.nodes) {
      try {
        const answer = await fetch(`http://127.0.0.1:${api}/cluster`, { signal: AbortSignal.timeout(1_000) });
        return ((await answer.json()) as { members: Member[] }).members;
      } catch {
        // It is down, frozen, or starts.
      }
    }
    return [];
  }

  /** Waits until one node leads and the other is its standby: where commits wait for standbys, one that they wait for. */
  async settled(): Promise<{ leader: Node; standby: Node }> {
    return await this.until("a leader and a standby", async () => {
      const members = await this.members();
      const find = (role: string, states: readonly string[]) =>
        this.nodes.find(({ name }) =>
          members.some((one) => one.name === name && one.role === role && states.includes(one.state)),
        );
      const [leader, other] = [find("leader", ["running"]), find(this.#standby, ["streaming", "running"])];
      return leader !== undefined && other !== undefined ? { leader, standby: other } : null;
    });
  }

  async until<T>(what: string, look: () => Promise<T | null>): Promise<T> {
    const deadline = Date.now() + PATIENCE;
    for (;;) {
      const found = await look();
      if (found !== null) return found;
      if (Date.now() > deadline) throw new Error(`There is not ${what}: ${JSON.stringify(await this.members())}`);
      await sleep(200);
    }
  }

  /** Patroni, PostgreSQL and all of its processes, at once: the machine is gone. */
  async kill({ folder }: Node): Promise<void> {
    await killAllIn(folder);
  }

  /** Starts Patroni on a node that was killed; it makes the node a standby, or the leader again. */
  restart({ folder }: Node): void {
    this.#spawn("/usr/bin/patroni", folder, ["patroni.yml"]);
  }

  /** The leader sends nothing more to its standby, and does not notice. */
  async holdReplication(leader: Node): Promise<void> {
    const senders = await this.query<{ pid: number }>(leader, "select pid from pg_stat_replication");
    signal(
      senders.map(({ pid }) => pid),
      "SIGSTOP",
    );
  }

  /** Everything on the node stands still: nobody hears of it, no connection ends. */
  freeze({ folder }: Node): void {
    signal(processesIn(folder), "SIGSTOP");
  }

  thaw({ folder }: Node): void {
    signal(processesIn(folder), "SIGCONT");
  }

  async switchover(leader: Node, candidate: Node): Promise<void> {
    const to = ["--leader", leader.name, "--candidate", candidate.name, "--force"];
    await promisify(execFile)("/usr/bin/patronictl", [
      "-c",
      join(leader.folder, "patroni.yml"),
      "switchover",
      SCOPE,
      ...to,
    ]);
  }

  /** Changes Patroni's settings for both nodes. */
  async configure(change: { synchronous_mode?: boolean; [name: string]: unknown }): Promise<void> {
    const { leader } = await this.settled();
    const body = JSON.stringify(change);
    const answer = await fetch(`http://127.0.0.1:${leader.api}/config`, { method: "PATCH", body });
    if (!answer.ok) throw new Error(`Patroni refuses its settings: ${answer.status}`);
    if (change.synchronous_mode === false) this.#standby = "replica";
    await this.settled();
  }

  /** Ends everything and removes it; what is left when this process is killed, its keeper ends. */
  async stop(): Promise<void> {
    this.#keeper.stdin?.end();
    if (this.#keeper.exitCode === null) await once(this.#keeper, "exit");
  }
}

/** Patroni's file for a node; JSON is YAML. */
function settings({ name, port, api, folder }: Node, etcd: number): object {
  const account = (username: string) => ({ username, password: PASSWORD });
  return {
    scope: SCOPE,
    name,
    restapi: { listen: `127.0.0.1:${api}`, connect_address: `127.0.0.1:${api}` },
    etcd3: { host: `127.0.0.1:${etcd}` },
    bootstrap: {
      dcs: {
        ...CLUSTER_SETTINGS,
        postgresql: { use_pg_rewind: true, parameters: { max_connections: 100, password_encryption: "scram-sha-256" } },
      },
      initdb: [{ encoding: "UTF8" }, "data-checksums"],
    },
    postgresql: {
      listen: `127.0.0.1:${port}`,
      connect_address: `127.0.0.1:${port}`,
      data_dir: join(folder, "data"),
      bin_dir: binaries(),
      pgpass: join(folder, "pgpass"),
      parameters: { unix_socket_directories: folder },
      pg_hba: ["host all all 127.0.0.1/32 scram-sha-256", "host replication replicator 127.0.0.1/32 scram-sha-256"],
      authentication: {
        superuser: account("postgres"),
        replication: account("replicator"),
        rewind: account("rewinder"),
      },
    },
  };
}
