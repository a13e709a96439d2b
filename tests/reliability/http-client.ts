/** A client that speaks plain HTTP and makes histories: reads, conditional writes and deletions at random, nothing hidden. */

import { createHash, randomBytes, randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import {
  DEFAULT_PROJECT,
  MIN_RECORD_BYTES,
  RECORD_MEDIA_TYPE,
  RecordState,
  fromBase64url,
  parseVersionTag,
  recordPath,
  versionTag,
  type ErrorBody,
} from "@tacenda/protocol";

import { ROOT_TOKEN, STORE, anyOf, type SupervisedServer } from "./deployment.ts";
import { tick, type History } from "./history.ts";
import { DELETED } from "./versioned-register.ts";

/** What takes part in histories. */
export interface HistoryClient {
  /** Makes one call, whichever, and notes what came of it. */
  act(history: History): Promise<void>;
  /** Whether the read was answered. */
  read(history: History): Promise<boolean>;
}

/** Milliseconds to wait for an answer; and of a client that gives up soon, at most. */
const PATIENCE = 5_000;
const IMPATIENCE = 20;
const SHARE_OF_IMPATIENT = 0.02;
/** How often a write is sent at most, and of those that were not carried out or may not have been, how many are sent again. */
const MOST_ATTEMPTS = 4;
const SHARE_SENT_AGAIN = 0.5;

/** After these a write may have happened, and after this one it has not: spec/http.md § Errors. */
const DOUBTFUL: readonly number[] = [500, 504];
const REFUSED = 503;

interface SentRequest {
  method?: "PUT";
  headers: Record<string, string>;
  body?: Uint8Array<ArrayBuffer>;
}

interface Answer {
  status: number;
  headers: Headers;
  body: Uint8Array;
}

/** No answer: `unsent` when there was nobody to take the request. */
type NoAnswer = "unsent" | "unknown";

export class HttpClient implements HistoryClient {
  readonly #servers: readonly SupervisedServer[];
  /** The version that this client has last seen. */
  readonly #known = new WeakMap<History, number>();
  /** Digests of everything any client has sent, by what tells it apart. */
  readonly #sent: Map<string, string>;

  constructor(servers: readonly SupervisedServer[], sent: Map<string, string>) {
    this.#servers = servers;
    this.#sent = sent;
  }

  async act(history: History): Promise<void> {
    const dice = Math.random();
    if (dice < 0.5) await this.read(history);
    else await this.#write(history, dice < 0.9 ? RecordState.value : RecordState.tombstone);
  }

  async read(history: History): Promise<boolean> {
    const known = this.#known.get(history);
    const headers: Record<string, string> =
      known !== undefined && known > 0 && Math.random() < 0.3 ? { "if-none-match": versionTag(known) } : {};
    const begin = tick();
    const answer = await this.#send(history, { headers });
    if (typeof answer === "string" || answer.status === REFUSED || DOUBTFUL.includes(answer.status)) return false;
    const version = parseVersionTag(answer.headers.get("etag") ?? "") ?? 0;
    if (answer.status === 200) this.#see(history, begin, version, answer.body);
    else if (answer.status === 304) history.note(begin, { kind: "read", seen: { version } });
    else if (errorOf(answer)?.code === "record_not_found") history.note(begin, { kind: "read", seen: { version: 0 } });
    else history.accuse(`a read was answered ${answer.status}`);
    this.#known.set(history, version);
    return true;
  }

  #see(history: History, begin: number, version: number, body: Uint8Array): void {
    const content = contentOf(body);
    history.note(begin, { kind: "read", seen: { version, content } });
    if (this.#sent.get(content) !== digestOf(body)) history.accuse(`version ${version} is torn`);
  }

  async #write(history: History, state: RecordState): Promise<void> {
    const over = this.#known.get(history) ?? 0;
    const body = sealedRecord(state);
    const content = contentOf(body);
    this.#sent.set(content, digestOf(body));
    const headers = {
      "content-type": RECORD_MEDIA_TYPE,
      ...(over === 0 ? { "if-none-match": "*" } : { "if-match": versionTag(over) }),
    };
    const begin = tick();
    let isDoubtful = false;
    for (let attempt = 1; attempt <= MOST_ATTEMPTS; attempt++) {
      const answer = await this.#send(history, { method: "PUT", headers, body });
      if (typeof answer !== "string" && this.#settle(history, begin, over, content, answer)) return;
      if (answer === "unknown" || (typeof answer !== "string" && DOUBTFUL.includes(answer.status))) isDoubtful = true;
      else if (typeof answer !== "string" && answer.status !== REFUSED) {
        history.accuse(`a write was answered ${answer.status}`);
      }
      if (Math.random() > SHARE_SENT_AGAIN) break;
      await sleep(randomInt(50));
    }
    // What was refused each time is in no history: whoever reads it reads what nobody wrote.
    if (isDoubtful) history.noteOpen(begin, { kind: "write", content, over });
  }

  /** Whether the answer says what became of the write. */
  #settle(history: History, begin: number, over: number, content: string, answer: Answer): boolean {
    if (answer.status === (over === 0 ? 201 : 200)) {
      const version = parseVersionTag(answer.headers.get("etag") ?? "") ?? 0;
      history.note(begin, { kind: "write", content, over, version });
      this.#known.set(history, version);
      return true;
    }
    if (answer.status !== 412) return false;
    // Nor was it an earlier attempt of the same write that is in the way: the server would have known its bytes.
    const current = errorOf(answer)?.current ?? null;
    const head = current && fromBase64url(current.head);
    const seen = { version: current?.version ?? 0, ...(head && { content: contentOf(head) }) };
    history.note(begin, { kind: "conflict", over, seen });
    this.#known.set(history, seen.version);
    return true;
  }

  async #send(history: History, init: SentRequest): Promise<Answer | NoAnswer> {
    const patience = Math.random() < SHARE_OF_IMPATIENT ? randomInt(1, IMPATIENCE) : PATIENCE;
    try {
      const answer = await fetch(`${anyOf(this.#servers).url}/${recordPath(DEFAULT_PROJECT, STORE, history.keyHash)}`, {
        ...init,
        headers: { ...init.headers, authorization: `Bearer ${ROOT_TOKEN}` },
        signal: AbortSignal.timeout(patience),
      });
      return { status: answer.status, headers: answer.headers, body: await answer.bytes() };
    } catch (error) {
      const cause = (error as { cause?: { code?: unknown } }).cause;
      return cause?.code === "ECONNREFUSED" ? "unsent" : "unknown";
    }
  }
}

/** Bytes with a good head and noise behind it, as a server sees a sealed record. */
function sealedRecord(state: RecordState): Uint8Array<ArrayBuffer> {
  const record = new Uint8Array(randomBytes(MIN_RECORD_BYTES + randomInt(1_000)));
  record.set([1, 1, state, 0, 0, 0, 0, 0, 0, 0, 0]);
  return record;
}

/** What tells one record from all others: its state, and the salt in its head. */
function contentOf(record: Uint8Array): string {
  const salt = Buffer.from(record.subarray(11, 43)).toString("base64");
  return record[2] === RecordState.tombstone ? DELETED + salt : salt;
}

function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("base64");
}

function errorOf({ body }: Answer): ErrorBody["error"] | null {
  try {
    return (JSON.parse(Buffer.from(body).toString()) as Partial<ErrorBody>).error ?? null;
  } catch {
    return null;
  }
}
