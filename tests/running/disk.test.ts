/**
 * What the embedded database takes on the disk while somebody reads an old state of it, and afterwards; docs/running.md § Disk.
 * TACENDA_LOG_MEGABYTES says how large the log grows.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, TacendaError, generateSecret, type Store } from "@tacenda/sdk";
import { TacendaAdmin } from "@tacenda/sdk/admin";
import BetterSqlite3 from "better-sqlite3";
import { expect, onTestFinished, test } from "vitest";

import { LOG_LEFT_LARGE, LOG_THREAD_FAILS } from "../reliability/seeded-bugs.ts";
import { openSmallDisk } from "../reliability/small-disk.ts";
import { seedServer } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder, spawnServer, type ServerProcess } from "../server-process.ts";

const ROOT_TOKEN = "root-token-of-the-disk-test-0123456789abcdef";
const MEGABYTES = Number(process.env.TACENDA_LOG_MEGABYTES ?? 40);
const VALUE = Buffer.alloc(1_000_000, 1);
/** What docs/running.md says that the log comes back to. */
const LOG_BYTES = 33_554_432;
const LARGE = MEGABYTES * VALUE.length;
/** Milliseconds in which a server that does something about its log would have done it. */
const LONG_ENOUGH = 4_000;
const PATIENCE = { timeout: 20_000 + 100 * MEGABYTES, interval: 100 };
const TIMEOUT = 60_000 + 500 * MEGABYTES;

const probe = await openSmallDisk(1_048_576);
await probe?.remove();

/** A server on a fresh data directory below `folder`, with a store. */
class World {
  readonly dataDir: string;
  readonly file: string;
  readonly #bin: string;
  readonly #secret = generateSecret();
  server!: ServerProcess;

  constructor(folder: string, bin = SERVER_BIN) {
    this.dataDir = join(folder, "data");
    this.file = join(this.dataDir, "tacenda.db");
    this.#bin = bin;
  }

  static async open(folder: string, bin?: string): Promise<World> {
    const world = new World(folder, bin);
    await world.start();
    await new TacendaAdmin({ url: world.server.url, token: ROOT_TOKEN }).stores.create("s");
    await world.fill("before", 20);
    expect(world.logSize).toBeLessThan(LOG_BYTES);
    return world;
  }

  async start(): Promise<void> {
    const flags = ["--metrics-port", "0"];
    this.server = await spawnServer({ dataDir: this.dataDir, bin: this.#bin, rootToken: ROOT_TOKEN, flags });
  }

  get store(): Store {
    const client = new Tacenda({ url: this.server.url, token: ROOT_TOKEN, maxAttempts: 1, timeout: 30_000 });
    return client.getStore("s", { secret: this.#secret, stretch: "store" });
  }

  /** Bytes of the log; 0 when there is none. */
  get logSize(): number {
    return statSync(`${this.file}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  }

  async fill(name: string, count: number): Promise<void> {
    const { store } = this;
    for (let key = 0; key < count; key++) await store.setValue(`${name}${key}`, VALUE);
  }

  /** Somebody who reads the database as it is now, until what is given is called. */
  read(): () => void {
    const reader = new BetterSqlite3(this.file, { readonly: true });
    reader.exec("begin");
    reader.prepare("select count(*) from records").get();
    onTestFinished(() => void reader.close());
    return () => reader.close();
  }

  /** Writes until the log is large, of which somebody reads the begin. Gives how to make them go. */
  async grow(): Promise<() => void> {
    const release = this.read();
    await this.fill("meanwhile", MEGABYTES);
    expect(this.logSize).toBeGreaterThan(LARGE);
    return release;
  }

  async shrinks(): Promise<void> {
    await expect.poll(() => this.logSize, PATIENCE).toBeLessThanOrEqual(LOG_BYTES);
  }

  async isWhole(): Promise<void> {
    const { store } = this;
    for (let key = 0; key < MEGABYTES; key++) {
      // toEqual takes a second for as many bytes.
      expect(VALUE.equals((await store.getBytes(`meanwhile${key}`)) ?? VALUE.subarray(1))).toBe(true);
    }
  }

  /** The gauge of that name; undefined when there is none. */
  async gauge(name: string): Promise<number | undefined> {
    const text = await (await fetch(this.server.metricsUrl ?? "")).text();
    const found = new RegExp(`^${name}(\\S*) (\\d+)$`, "m").exec(text);
    // Not of a project, nor of anything else: of the whole.
    expect(found?.[1] ?? "").toBe("");
    return found === null ? undefined : Number(found[2]);
  }
}

/** A backup that is held up while the log grows, and ends in peace. Nobody writes any more then. */
async function holdUpBackup(bin: string): Promise<World> {
  const folder = await freshFolder();
  const world = await World.open(folder, bin);
  const target = join(folder, "backup");
  const backup = spawn(process.execPath, [SERVER_BIN, "backup", target, "--data-dir", world.dataDir], {
    stdio: "ignore",
    env: { PATH: process.env.PATH },
  });
  const ended = once(backup, "exit");
  onTestFinished(() => void backup.kill("SIGKILL"));
  // It has its snapshot before it makes the directory.
  while (!existsSync(target)) await sleep(5);
  backup.kill("SIGSTOP");
  expect(backup.exitCode).toBeNull();
  await world.fill("meanwhile", MEGABYTES);
  expect(world.logSize).toBeGreaterThan(LARGE);
  // The server has looked, and cannot do anything yet.
  await sleep(1_500);
  expect(await world.gauge("tacenda_database_log_bytes")).toBe(world.logSize);
  expect(world.logSize).toBeGreaterThan(LARGE);
  backup.kill("SIGCONT");
  expect((await ended)[0]).toBe(0);
  return world;
}

test(
  "the log that grew under a backup that is held up shrinks when that has ended, although nobody writes",
  { timeout: TIMEOUT },
  async () => {
    const world = await holdUpBackup(SERVER_BIN);
    await world.shrinks();
    await world.isWhole();
    expect(await world.gauge("tacenda_database_bytes")).toBe(statSync(world.file).size);
    expect(await world.gauge("tacenda_database_free_bytes")).toBeLessThan(1_000_000);
    await world.server.end("SIGTERM");
    expect(world.server.exitCode()).toBe(0);
    expect(world.logSize).toBe(0);
  },
);

test("this suite catches a server that does nothing about it", { timeout: TIMEOUT }, async () => {
  const world = await holdUpBackup(await seedServer(await freshFolder(), [LOG_LEFT_LARGE]));
  await sleep(LONG_ENOUGH);
  expect(world.logSize).toBeGreaterThan(LARGE);
});

test(
  "it shrinks under steady writes as well, and every write that was acknowledged is there",
  { timeout: TIMEOUT },
  async () => {
    const world = await World.open(await freshFolder());
    const release = await world.grow();
    const { store } = world;
    const written: string[] = [];
    const waits = { read: 0, write: 0 };
    const time = async (kind: keyof typeof waits, call: () => Promise<unknown>) => {
      const begun = performance.now();
      await call();
      waits[kind] = Math.max(waits[kind], performance.now() - begun);
    };
    const stop = new AbortController();
    const writers = Array.from({ length: 8 }, async (_, writer) => {
      for (let count = 0; !stop.signal.aborted; count++) {
        const key = `${writer}:${count}`;
        await time("write", () => store.setValue(key, `value of ${key}`));
        written.push(key);
        await time("read", () => store.getValue(key));
      }
    });
    await sleep(1_500);
    release();
    await world.shrinks();
    await sleep(500);
    stop.abort();
    await Promise.all(writers);
    expect(world.logSize).toBeLessThanOrEqual(LOG_BYTES);
    const [read, write] = [waits.read, waits.write].map((wait) => wait.toFixed(0));
    console.log(
      `a log of ${MEGABYTES} MB: of ${written.length} writes the longest took ${write} ms, of reads ${read} ms`,
    );
    for (const key of written) expect(await store.getValue(key)).toBe(`value of ${key}`);
    await world.isWhole();
  },
);

test(
  "a server that is killed over a large log loses nothing, and the next one makes it small",
  { timeout: TIMEOUT },
  async () => {
    const world = await World.open(await freshFolder());
    const release = await world.grow();
    await sleep(1_500);
    release();
    // At this moment its thread may be at it, or not.
    await sleep(Math.random() * 1_000);
    await world.server.end("SIGKILL");
    await world.start();
    await world.shrinks();
    await world.isWhole();
  },
);

test("a server that is stopped over a large log ends its thread, and leaves no log", { timeout: TIMEOUT }, async () => {
  const world = await World.open(await freshFolder());
  const release = await world.grow();
  await sleep(1_500);
  release();
  await world.server.end("SIGTERM");
  expect(world.server.exitCode()).toBe(0);
  expect(world.logSize).toBe(0);
  await world.start();
  await world.isWhole();
});

test("where the thread cannot run, commits make the log small", { timeout: TIMEOUT }, async () => {
  const world = await World.open(await freshFolder(), await seedServer(await freshFolder(), [LOG_THREAD_FAILS]));
  const release = await world.grow();
  release();
  await sleep(LONG_ENOUGH);
  expect(world.logSize).toBeGreaterThan(LARGE);
  for (let key = 0; world.logSize > LOG_BYTES && key < 5; key++) await world.fill(`after${key}`, 1);
  expect(world.logSize).toBeLessThanOrEqual(LOG_BYTES);
  await world.isWhole();
  await world.server.end("SIGTERM");
  expect(world.server.exitCode()).toBe(0);
});

test.runIf(probe)(
  "on a full disk the log stays, reads go on, and it shrinks when there is room",
  { timeout: TIMEOUT },
  async () => {
    const disk = await openSmallDisk(4 * LARGE);
    if (disk === null) expect.unreachable("no tmpfs can be mounted");
    onTestFinished(() => disk.remove());
    const world = await World.open(disk.path);
    const release = await world.grow();
    await disk.fill();
    release();
    await sleep(LONG_ENOUGH);
    expect(world.logSize).toBeGreaterThan(LARGE);
    const refusal: unknown = await world.store.setValue("late", VALUE).catch((error: unknown) => error);
    expect(TacendaError.is(refusal, "storage_full")).toBe(true);
    await world.isWhole();
    disk.free();
    await world.shrinks();
    await world.isWhole();
    await world.store.setValue("late", VALUE);
    await world.server.end("SIGTERM");
  },
);
