/**
 * What writers were told, kept outside the server and on another file system than its data: an append-only file with a line
 * before each PUT is sent and a line after its answer. After a crash the file is read and compared with what the server has.
 */

import { createHash } from "node:crypto";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { parseVersionTag } from "@tacenda/protocol";
import { onTestFinished } from "vitest";

type Digest = string;

/** Its bytes are with the system before the PUT is sent. */
interface Intent {
  /** Number of the PUT. */
  put: number;
  /** Path below the server's URL; the URL itself changes with each start. */
  path: string;
  version: number;
  digest: Digest;
}

/** Without one, or without a status, nobody knows what became of the PUT. */
interface Outcome {
  put: number;
  /** Null when no answer came. */
  status: number | null;
}

/** What a writer knows of the bytes it sent. `refused`: every answer said that nothing was written. */
const VERDICTS = ["acknowledged", "maybe", "refused"] as const;
type Verdict = (typeof VERDICTS)[number];

/** One version of one record, with everything that was sent for it. */
interface Line {
  path: string;
  version: number;
  sent: Map<Digest, Verdict>;
}

/** Answers after which nothing was written: spec/http.md § Errors. */
const REFUSALS: ReadonlySet<number> = new Set([400, 401, 403, 404, 408, 410, 412, 413, 415, 428, 429, 503, 507]);

export class Ledger {
  readonly #file: string;
  readonly #descriptor: number;
  #puts = 0;

  /** Its file is removed when the test ends. */
  constructor() {
    const folder = mkdtempSync(join(otherFileSystem(), "tacenda-ledger-"));
    this.#file = join(folder, "ledger.jsonl");
    this.#descriptor = openSync(this.#file, "ax");
    onTestFinished(() => {
      closeSync(this.#descriptor);
      rmSync(folder, { recursive: true, force: true });
    });
  }

  /** How many versions were acknowledged. */
  get acknowledged(): number {
    return this.#read().filter(({ sent }) => [...sent.values()].includes("acknowledged")).length;
  }

  /** A `fetch` that does as the real one and keeps the ledger: before a PUT is sent, and when it is answered. */
  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    const request = new Request(input, init);
    if (request.method !== "PUT" || !request.url.includes("/records/")) return await globalThis.fetch(request);
    const put = this.#puts++;
    this.#append({
      put,
      path: new URL(request.url).pathname,
      version: versionOf(request.headers),
      digest: digestOf(await request.clone().arrayBuffer()),
    });
    let status: number | null = null;
    try {
      const response = await globalThis.fetch(request);
      status = response.status;
      return response;
    } finally {
      this.#append({ put, status });
    }
  };

  /**
   * Reads every version in the ledger from the server at `url`, and the list of versions of each record. Gives a line for each
   * version that is lost, torn, refused and there all the same, of nobody's writing, or missing between others.
   */
  async audit(url: string, token: string): Promise<string[]> {
    const faults: string[] = [];
    const work = async <Item>(items: Item[], judge: (item: Item) => Promise<string[]>) => {
      for (let item = items.pop(); item !== undefined; item = items.pop()) faults.push(...(await judge(item)));
    };
    const get = (path: string) => fetch(`${url}${path}`, { headers: { authorization: `Bearer ${token}` } });
    const lines = this.#read();
    const records = [...Map.groupBy(lines, ({ path }) => path)];
    const workers = Array.from({ length: 8 }, async () => {
      await work(lines, async (line) => {
        const fault = await judgeVersion(line, get);
        return fault === null ? [] : [`version ${line.version} of ${line.path}: ${fault}`];
      });
      await work(records, async ([path, known]) =>
        (await judgeList(path, known, get)).map((fault) => `${path}: ${fault}`),
      );
    });
    await Promise.all(workers);
    return faults;
  }

  #append(line: Intent | Outcome): void {
    // With O_APPEND and at once: when this returns the system has the bytes, whatever becomes of this process.
    writeSync(this.#descriptor, `${JSON.stringify(line)}\n`);
  }

  /** What the file says, version by version. */
  #read(): Line[] {
    const rows = readFileSync(this.#file, "utf8").split("\n").slice(0, -1);
    const intents: Intent[] = [];
    const statuses = new Map<number, number | null>();
    for (const row of rows.map((text) => JSON.parse(text) as Intent | Outcome)) {
      if ("status" in row) statuses.set(row.put, row.status);
      else intents.push(row);
    }
    const lines = new Map<string, Line>();
    for (const { put, path, version, digest } of intents) {
      const name = `${path} ${version}`;
      const line = lines.get(name) ?? { path, version, sent: new Map() };
      lines.set(name, line);
      const verdicts = [line.sent.get(digest) ?? "refused", verdictOf(statuses.get(put) ?? null)];
      // The same bytes may be sent several times: one good answer is enough, and so is one open question.
      line.sent.set(digest, VERDICTS.find((verdict) => verdicts.includes(verdict)) ?? "refused");
    }
    return [...lines.values()];
  }
}

/** A folder that is not where the servers' data directories are, if this machine has one. */
function otherFileSystem(): string {
  const given = process.env.TACENDA_LEDGER_DIR;
  if (given !== undefined && given !== "") return given;
  const memory = "/dev/shm";
  return existsSync(memory) && statSync(memory).dev !== statSync(tmpdir()).dev ? memory : tmpdir();
}

function verdictOf(status: number | null): Verdict {
  if (status === null) return "maybe";
  if (status === 200 || status === 201) return "acknowledged";
  return REFUSALS.has(status) ? "refused" : "maybe";
}

/** The version that a PUT with these preconditions writes. */
function versionOf(headers: Headers): number {
  return (parseVersionTag(headers.get("if-match") ?? "") ?? 0) + 1;
}

type Get = (path: string) => Promise<Response>;

async function judgeVersion({ path, version, sent }: Line, get: Get): Promise<string | null> {
  const acknowledged = [...sent].flatMap(([digest, verdict]) => (verdict === "acknowledged" ? [digest] : []));
  if (acknowledged.length > 1) return `${acknowledged.length} different writes of it were acknowledged`;
  const answer = await get(`${path}?version=${version}`);
  const body = await answer.arrayBuffer();
  if (answer.status === 404) return acknowledged.length === 0 ? null : "was acknowledged and is lost";
  if (answer.status !== 200) return `cannot be read: ${answer.status}`;
  const digest = digestOf(body);
  if (acknowledged.length > 0) return digest === acknowledged[0] ? null : "is not what was acknowledged";
  const verdict = sent.get(digest);
  if (verdict === undefined) return "is torn: nobody wrote these bytes";
  return verdict === "refused" ? "was refused and is there" : null;
}

/** A store's `maxVersions` must be more than what was written of a record. */
async function judgeList(path: string, known: readonly Line[], get: Get): Promise<string[]> {
  const answer = await get(`${path}/versions`);
  if (answer.status === 404) {
    await answer.arrayBuffer();
    return [];
  }
  if (answer.status !== 200) return [`its versions cannot be listed: ${answer.status}`];
  const { versions } = (await answer.json()) as { versions: { version: number }[] };
  const written = new Set(known.map(({ version }) => version));
  const listed = versions.map(({ version }) => version).sort((a, b) => a - b);
  return listed.flatMap((version, index) => [
    ...(written.has(version) ? [] : [`nobody wrote its version ${version}`]),
    ...(version === index + 1 ? [] : [`its versions have a gap or a double before ${version}`]),
  ]);
}

function digestOf(bytes: ArrayBuffer): Digest {
  return createHash("sha256").update(new Uint8Array(bytes)).digest("base64");
}
