/**
 * What writers were told, kept outside the server: every version that a PUT tried to write, with its bytes, and whether
 * it was acknowledged. After a crash it is compared with what the server then has.
 */

import { createHash } from "node:crypto";

import { parseVersionTag } from "@tacenda/protocol";

type Digest = string;

/** One version of one record. */
interface Line {
  /** Path below the server's URL; the URL itself changes with each start. */
  path: string;
  version: number;
  /** What was sent for it; several bodies only if the caller sealed anew. */
  sent: Set<Digest>;
  acknowledged: Digest | null;
}

export class Ledger {
  readonly #lines = new Map<string, Line>();

  /** How many versions were acknowledged. */
  get acknowledged(): number {
    return [...this.#lines.values()].filter((line) => line.acknowledged !== null).length;
  }

  /** A `fetch` that does as the real one and keeps the ledger: before a PUT is sent, and when it is acknowledged. */
  readonly fetch: typeof globalThis.fetch = async (input, init) => {
    const request = new Request(input, init);
    if (request.method !== "PUT" || !request.url.includes("/records/")) return await globalThis.fetch(request);
    const line = this.#lineOf(new URL(request.url).pathname, versionOf(request.headers));
    const digest = digestOf(await request.clone().arrayBuffer());
    line.sent.add(digest);
    const response = await globalThis.fetch(request);
    if (response.ok) line.acknowledged = digest;
    return response;
  };

  /** Reads every version in the ledger from the server at `url`. Gives a line for each that is lost or torn. */
  async audit(url: string, token: string): Promise<string[]> {
    const faults: string[] = [];
    const waiting = [...this.#lines.values()];
    const work = async () => {
      for (let line = waiting.pop(); line !== undefined; line = waiting.pop()) {
        const fault = await judge(line, url, token);
        if (fault !== null) faults.push(`version ${line.version} of ${line.path}: ${fault}`);
      }
    };
    await Promise.all(Array.from({ length: 8 }, work));
    return faults;
  }

  #lineOf(path: string, version: number): Line {
    const name = `${path} ${version}`;
    const line = this.#lines.get(name) ?? { path, version, sent: new Set(), acknowledged: null };
    this.#lines.set(name, line);
    return line;
  }
}

/** The version that a PUT with these preconditions writes. */
function versionOf(headers: Headers): number {
  return (parseVersionTag(headers.get("if-match") ?? "") ?? 0) + 1;
}

async function judge({ path, version, sent, acknowledged }: Line, url: string, token: string): Promise<string | null> {
  const answer = await fetch(`${url}${path}?version=${version}`, { headers: { authorization: `Bearer ${token}` } });
  const body = await answer.arrayBuffer();
  if (answer.status === 404) return acknowledged === null ? null : "was acknowledged and is lost";
  if (answer.status !== 200) return `cannot be read: ${answer.status}`;
  const digest = digestOf(body);
  if (acknowledged !== null && digest !== acknowledged) return "is not what was acknowledged";
  return sent.has(digest) ? null : "is torn: nobody wrote these bytes";
}

function digestOf(bytes: ArrayBuffer): Digest {
  return createHash("sha256").update(new Uint8Array(bytes)).digest("base64");
}
