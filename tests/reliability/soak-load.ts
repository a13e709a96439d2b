/** Some of everything that clients and administrators do, and some of what they should not, for as long as it is let. */

import { randomInt } from "node:crypto";
import { get } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

import { Tacenda, TacendaError, generateSecret, type Store } from "@tacenda/sdk";

import { recordPath, stall } from "./flood.ts";
import { STORE, adminOf } from "./key-world.ts";
import { garbageToken } from "./tokens.ts";

const CLIENTS = 4;
const KEYS_EACH = 50;
const LONGEST_VALUE = 4_000;
const LARGE_VALUE = 300_000;
/** Milliseconds for a call: this is no test of speed. */
const TIMEOUT = 30_000;
/** How far from its expiry nothing is expected of a value, in milliseconds. */
const EXPIRY_DOUBT = 2_000;

interface Expected {
  value: string;
  /** Milliseconds since the epoch. */
  expiresAt: number;
}

export class SoakLoad {
  /** How often each thing was done. */
  readonly counts: Record<string, number> = {};
  readonly faults: string[] = [];
  readonly #url: string;
  readonly #token: string;
  /** Of one who has the wrong secret: its checks are soon refused, and must not be those of the others. */
  #wrong: string | null = null;
  readonly #secret = generateSecret();
  readonly #stop = new AbortController();
  #all: Promise<unknown> = Promise.resolve();

  /** `token` may read, write and delete in every store. */
  static async begin(url: string, token: string): Promise<SoakLoad> {
    const load = new SoakLoad(url, token);
    // The first write says which secret is the right one.
    await load.#open().setValue("first", "value");
    load.#all = load.#run();
    return load;
  }

  private constructor(url: string, token: string) {
    this.#url = url;
    this.#token = token;
  }

  #run(): Promise<unknown> {
    const clients = Array.from({ length: CLIENTS }, (_, index) => this.#client(index));
    return Promise.all([
      ...clients.map((step) => this.#repeat("call", 40, step)),
      this.#repeat("token minted, used and revoked", 700, () => this.#mintAndRevoke()),
      this.#repeat("store made, used and destroyed", 2_000, (count) => this.#makeAndDestroy(count)),
      this.#repeat("wrong token", 200, () => this.#wrongToken()),
      this.#repeat("wrong secret", 3_000, () => this.#wrongSecret()),
      this.#repeat("connection that breaks off", 500, (count) => this.#breakOff(count)),
      this.#repeat("data key rotated", 8_000, () => this.#rotateDataKey()),
      this.#repeat("master key rotated", 60_000, () => this.#rotateMasterKey()),
    ]);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#all;
  }

  async #repeat(name: string, pause: number, step: (count: number) => Promise<unknown>): Promise<void> {
    const { signal } = this.#stop;
    for (let count = 0; !signal.aborted; count++) {
      try {
        await step(count);
        this.counts[name] = (this.counts[name] ?? 0) + 1;
      } catch (error) {
        this.faults.push(`${name}: ${String(error)}`);
      }
      await sleep(pause, undefined, { signal }).catch(() => undefined);
    }
  }

  #open(token = this.#token, secret = this.#secret, id = STORE): Store {
    return new Tacenda({ url: this.#url, token, timeout: TIMEOUT }).getStore(id, { secret, stretch: "store" });
  }

  /** Reads and writes its own keys, one thing each time, and knows what must be there. */
  #client(index: number): () => Promise<void> {
    const store = this.#open();
    const expected = new Map<string, Expected>();
    const anyKey = () => `${index}-${randomInt(KEYS_EACH)}`;
    const anyValue = (length = randomInt(20, LONGEST_VALUE)) => `${index}:${Date.now()}:`.padEnd(length, "=");
    const keep = (key: string, value: string, expiresAt = Infinity) => expected.set(key, { value, expiresAt });
    const check = (key: string, value: string | null) => {
      const { value: written, expiresAt } = expected.get(key) ?? { value: null, expiresAt: Infinity };
      if (Math.abs(Date.now() - expiresAt) < EXPIRY_DOUBT) return;
      if (value !== (Date.now() > expiresAt ? null : written)) this.faults.push(`${key} reads otherwise`);
    };
    const set = async (length?: number) => {
      const [key, value] = [anyKey(), anyValue(length)];
      await store.setValue(key, value);
      keep(key, value);
    };
    const things: (() => Promise<void>)[] = [
      () => set(),
      () => set(LARGE_VALUE),
      async () => {
        const [key, value] = [anyKey(), anyValue()];
        const expiresAt = Date.now() + 5_000;
        await store.setValue(key, value, { expiresAt: new Date(expiresAt) });
        keep(key, value, expiresAt);
      },
      async () => {
        const entries = new Map(Array.from({ length: 5 }, () => [anyKey(), anyValue()]));
        await store.setValues(entries);
        for (const [key, value] of entries) keep(key, value);
      },
      async () => {
        const key = anyKey();
        await store[randomInt(2) === 0 ? "deleteValue" : "destroyValue"](key);
        expected.delete(key);
      },
      async () => {
        const key = anyKey();
        check(key, await store.getValue(key));
      },
      async () => {
        const keys = [...new Set(Array.from({ length: 20 }, anyKey))];
        for (const [key, value] of await store.getValues(keys)) check(key, value);
      },
      async () => {
        await store.listVersions(anyKey());
      },
    ];
    return async () => await things[randomInt(things.length)]?.();
  }

  async #mintAndRevoke(): Promise<void> {
    const { id, token } = await this.#mint("soak");
    const store = this.#open(token);
    await store.getValue("0-0");
    await adminOf(this.#url, { timeout: TIMEOUT }).tokens.delete(id);
    await refused("token_refused", store.getValue("0-0"));
  }

  async #mint(name: string) {
    const admin = adminOf(this.#url, { timeout: TIMEOUT });
    return await admin.tokens.create(name, [{ stores: [STORE], permissions: ["read"] }]);
  }

  async #makeAndDestroy(count: number): Promise<void> {
    const admin = adminOf(this.#url, { timeout: TIMEOUT });
    const id = `soak-${count}`;
    await admin.stores.create(id);
    const store = this.#open(this.#token, this.#secret, id);
    await store.setValues(
      new Map([
        ["a", "1"],
        ["b", "2"],
      ]),
    );
    if ((await store.getValue("b")) !== "2") throw new Error("b reads otherwise");
    await admin.stores.delete(id);
    await refused("store_not_found", store.getValue("b"));
  }

  async #wrongToken(): Promise<void> {
    const headers = { authorization: `Bearer ${garbageToken()}` };
    const answer = await fetch(this.#url + recordPath(), { headers });
    await answer.arrayBuffer();
    if (answer.status !== 401) throw new Error(`A made-up token was answered ${answer.status}.`);
  }

  async #wrongSecret(): Promise<void> {
    this.#wrong ??= (await this.#mint("wrong secret")).token;
    const store = this.#open(this.#wrong, generateSecret());
    const error: unknown = await store.getValue("0-0").catch((thrown: unknown) => thrown);
    const isKnown = TacendaError.is(error, "wrong_secret") || TacendaError.is(error, "rate_limited");
    if (!isKnown) throw new Error(`A wrong secret gave ${String(error)}.`);
  }

  async #breakOff(count: number): Promise<void> {
    const head = `PUT ${recordPath()} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${this.#token}\r\n`;
    const body = "Content-Type: application/octet-stream\r\nIf-None-Match: *\r\nContent-Length: 200000\r\n\r\n";
    const beginnings = [[], ["rubbish\r\n\r\n"], [head], [head + body], [head + body, Buffer.alloc(100_000)]];
    const socket = await stall(this.#url, beginnings[count % beginnings.length] ?? []);
    await sleep(50);
    socket.destroy();
    // One that is closed after its one answer.
    await new Promise((resolve, reject) => {
      get(`${this.#url}/livez`, { agent: false }, (answer) => answer.resume().once("end", resolve)).once(
        "error",
        reject,
      );
    });
  }

  async #rotateDataKey(): Promise<void> {
    await adminOf(this.#url, { timeout: TIMEOUT }).keys.rotateData(STORE, { reencrypt: true });
  }

  async #rotateMasterKey(): Promise<void> {
    await adminOf(this.#url, { timeout: TIMEOUT }).keys.rotate();
  }
}

async function refused(code: "token_refused" | "store_not_found", call: Promise<unknown>): Promise<void> {
  const error: unknown = await call.then(
    () => "success",
    (thrown: unknown) => thrown,
  );
  if (!TacendaError.is(error, code)) throw new Error(`Instead of ${code} there was ${String(error)}.`);
}
