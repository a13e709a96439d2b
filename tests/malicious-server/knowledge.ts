/**
 * What is true of one key, whatever the server does: the records that holders of the secret have sealed for it, and what
 * each client has seen of them. It judges each outcome by the master property; spec/record.md § Marks, § Writing.
 */

import type { Entry, TacendaError } from "@tacenda/sdk";
import { parseVersionTag, RecordState, versionTag } from "@tacenda/protocol";

import type { Exchange, Sent, Snapshot } from "./adversary.js";
import { versionSealed } from "./mutators.js";

/** A record that a holder has sealed, whether or not the server ever stored it. */
interface SealedRecord {
  version: number;
  bytes: Uint8Array;
  commitment: string;
  /** What it may hold; nothing if it is a tombstone. */
  values: ReadonlySet<string>;
}

interface Seen {
  version: number;
  commitment: string;
}

/** Breaks the master property. */
export class Violation extends Error {}

function must(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Violation(what);
}

const SEAL_BEGINS = 43;
const SEAL_ENDS = 75;
/** After any other, an answer is final; spec/http.md § Transport. */
const RETRYABLE = [408, 429, 502, 503, 504];

export class Knowledge {
  readonly #sealed: SealedRecord[] = [];
  readonly #seen = new Map<number, Seen>();

  /** The values sealed as a version. */
  valuesAt(version: number): ReadonlySet<string> {
    return new Set(this.#sealed.filter((record) => record.version === version).flatMap(({ values }) => [...values]));
  }

  /** Notes a record on its way to the server. `base` is the version that the caller named, if any. */
  noteSealed(sent: Sent, values: ReadonlySet<string>, base: number | undefined): void {
    if (sent.method !== "PUT") return;
    const version = versionSealed(sent);
    const verified = version === 1 || version - 1 === base || this.#sealed.some((one) => one.version === version - 1);
    must(verified, `sealed for version ${version}, though nobody has sealed the one before it`);
    if (this.#sealed.some(({ bytes }) => Buffer.compare(bytes, sent.body) === 0)) return;
    const tombstone = sent.body[2] === RecordState.tombstone;
    this.#sealed.push({
      version,
      bytes: sent.body,
      commitment: commitmentOf(sent.body),
      values: tombstone ? new Set() : values,
    });
  }

  forget(client: number): void {
    this.#seen.delete(client);
  }

  /** Judges outcomes of calls that overlapped: each by what the client had seen before all of them. */
  judgeOverlapping(client: number, judgements: readonly (() => void)[]): void {
    const before = this.#seen.get(client);
    const all = judgements.map((judge) => {
      if (before === undefined) this.#seen.delete(client);
      else this.#seen.set(client, before);
      judge();
      return this.#seen.get(client);
    });
    const [highest, second] = all.filter((seen) => seen !== undefined).toSorted((a, b) => b.version - a.version);
    if (highest !== undefined) this.#seen.set(client, highest);
    const forked = highest?.version === second?.version && highest?.commitment !== second?.commitment;
    must(!forked, "two records of one version were shown");
  }

  /** Judges a value read as the current one. `version` is the one that the client names, if it does. */
  judgeValue(client: number, value: string, exchanges: readonly Exchange[], version?: number): void {
    const record = this.#provenBy(exchanges) ?? this.#cachedValue(client, value, exchanges, version);
    must(record?.values.has(value) === true, "a value was returned that no holder has sealed as this key and version");
    must(version === undefined || version === record.version, "a value was returned under another version");
    this.#raise(client, record);
  }

  /** Judges a value read as an earlier version. */
  judgeVersion(value: string, exchanges: readonly Exchange[], asked: number): void {
    const record = this.#provenBy(exchanges);
    must(record?.values.has(value) === true, "a value was returned that no holder has sealed as this key and version");
    must(record.version === asked, "another version was returned than was asked for");
  }

  /** Judges that there is no value, as `getValue` says it. */
  judgeNoValue(client: number, exchanges: readonly Exchange[]): void {
    const record = this.#provenBy(exchanges);
    if (record?.values.size === 0) this.#raise(client, record);
    else this.judgeAbsence(client);
  }

  /** Judges that the key is said never to have existed. */
  judgeAbsence(client: number): void {
    must(!this.#seen.has(client), "a client that had seen the key was told, without an error, that there is none");
  }

  judgeEntry(client: number, entry: Entry | null, exchanges: readonly Exchange[]): void {
    if (entry === null) {
      this.judgeAbsence(client);
      return;
    }
    if (entry.state !== "live") {
      const record = this.#provenBy(exchanges);
      must(entry.state === "deleted" && record?.values.size === 0, "gone without a proof");
      must(record.version === entry.version, "gone as another version");
      this.#raise(client, record);
      return;
    }
    this.judgeValue(client, String(entry.value), exchanges, entry.version);
  }

  /** Judges a write that the client takes for done. */
  judgeWritten(client: number, version: number, exchanges: readonly Exchange[]): void {
    const last = exchanges.findLast(({ method }) => method === "PUT");
    must(last !== undefined && versionSealed(last) === version, "a write was reported that was not sent");
    const answer = snapshotOf(last);
    must(answer !== undefined && [200, 201].includes(answer.status), "a write was reported without an acknowledgement");
    must(answer.headers.get("etag") === versionTag(version), "an acknowledgement of another version was believed");
    must(version > (this.#seen.get(client)?.version ?? 0), "a write was reported below the client's mark");
    this.#seen.set(client, { version, commitment: commitmentOf(last.body) });
  }

  /** Judges what an error claims to be proven. */
  judgeError(client: number, error: TacendaError): void {
    const seen = this.#seen.get(client)?.version ?? 0;
    if (error.code === "conflict") {
      const { currentVersion } = error as TacendaError & { currentVersion: number };
      const known = currentVersion === 0 ? seen === 0 : this.#sealed.some(({ version }) => version === currentVersion);
      must(known && currentVersion >= seen, "a conflict with a version that nobody sealed, or from before the mark");
    }
    if (error.code === "already_exists") {
      const live = this.#sealed.some(({ version, values }) => version >= seen && values.size > 0);
      must(live, "a value is said to exist that nobody has sealed");
    }
  }

  #provenBy(exchanges: readonly Exchange[]): SealedRecord | undefined {
    const answer = snapshotOf(exchanges.at(-1));
    if (answer?.status !== 200) return undefined;
    const version = parseVersionTag(answer.headers.get("etag") ?? "");
    return this.#sealed.find((one) => one.version === version && Buffer.compare(one.bytes, answer.bytes) === 0);
  }

  /**
   * The record of a value that came from the client's own memory: nothing was asked, or the server said that it is still
   * current. Of several that it could be, the lowest.
   */
  #cachedValue(client: number, value: string, exchanges: readonly Exchange[], version?: number) {
    const last = exchanges.at(-1);
    if (last !== undefined && snapshotOf(last)?.status !== 304) return undefined;
    const seen = this.#seen.get(client);
    return this.#sealed
      .filter((record) => record.values.has(value) && (version === undefined || record.version === version))
      .filter((record) => !isOlder(record, seen))
      .toSorted((a, b) => a.version - b.version)[0];
  }

  #raise(client: number, { version, commitment }: SealedRecord): void {
    const seen = this.#seen.get(client);
    const what = `version ${version}, or its record, is not what this client has seen: version ${seen?.version ?? 0}`;
    must(!isOlder({ version, commitment }, seen), what);
    this.#seen.set(client, { version, commitment });
  }
}

/** What holds of every call: one record only, no second try once an answer is final, no new seal after one in doubt. */
export function judgeExchanges(exchanges: readonly Exchange[], readsOnly: boolean): void {
  const paths = new Set(exchanges.map(({ url }) => url.pathname));
  must(paths.size <= 1, "a call for one key asked for several records");
  const finals = exchanges.findIndex(({ answer }) => typeof answer !== "string" && !RETRYABLE.includes(answer.status));
  if (readsOnly) must(finals === -1 || finals === exchanges.length - 1, "a read was tried again after a final answer");
  const doubtful = exchanges.findIndex(({ method, answer }) => method === "PUT" && isDoubtful(answer));
  if (doubtful === -1) return;
  const first = exchanges[doubtful]?.body ?? new Uint8Array(0);
  const resealed = exchanges
    .slice(doubtful)
    .some((one) => one.method === "PUT" && Buffer.compare(one.body, first) !== 0);
  must(!resealed, "a write whose outcome is in doubt was sealed again");
}

/** Whether a write may have been carried out, though the client cannot know. */
function isDoubtful(answer: Exchange["answer"]): boolean {
  if (typeof answer === "string") return answer === "failed";
  return RETRYABLE.includes(answer.status) && !Buffer.from(answer.bytes).includes('"code"');
}

/** Whether a version is lower than what was seen, or another record of it. */
function isOlder({ version, commitment }: Seen, seen: Seen | undefined): boolean {
  if (seen === undefined) return false;
  return version < seen.version || (version === seen.version && commitment !== seen.commitment);
}

function snapshotOf(exchange: Exchange | undefined): Snapshot | undefined {
  return typeof exchange?.answer === "object" ? exchange.answer : undefined;
}

function commitmentOf(record: Uint8Array): string {
  return Buffer.from(record.subarray(SEAL_BEGINS, SEAL_ENDS)).toString("hex");
}
