/** A network between one server and PostgreSQL that can be cut at any byte: a relay on a port of its own. */

import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

import { onTestFinished } from "vitest";

/** The text of the message by which the server ends a transaction. */
const COMMIT = "commit\0";
/** Of all COMMITs, how many are cut while that lasts. */
const SHARE_OF_COMMITS = 0.5;

/** What goes nowhere: the sender hears nothing of it, and its connection stays open. */
type Silence = "everything" | "answers";

interface Pair {
  server: Socket;
  database: Socket;
  /** What silence has swallowed, in its order. */
  held: (() => void)[];
  /** The server is to hear nothing more of the database. */
  isCut: boolean;
}

export class DatabaseLink {
  readonly #relay: Server;
  readonly #target: URL;
  readonly #pairs = new Set<Pair>();
  #silence: Silence | null = null;
  #cutting: "before" | "after" | null = null;
  /** COMMITs and connections that were cut, and parts of conversations that silence has swallowed. */
  hits = 0;

  private constructor(databaseUrl: string) {
    this.#target = new URL(databaseUrl);
    this.#relay = createServer((socket) => this.#join(socket));
  }

  /** It is closed when the test ends. */
  static async open(databaseUrl: string): Promise<DatabaseLink> {
    const link = new DatabaseLink(databaseUrl);
    link.#relay.listen(0, "127.0.0.1");
    await once(link.#relay, "listening");
    onTestFinished(() => {
      link.reset();
      link.#relay.close();
    });
    return link;
  }

  /** The database's URL by way of this link. */
  get url(): string {
    const url = new URL(this.#target);
    url.hostname = "127.0.0.1";
    url.port = String((this.#relay.address() as AddressInfo).port);
    return url.href;
  }

  /** Every open connection ends with a reset, in both directions, wherever it is. */
  reset(): void {
    this.hits += this.#pairs.size;
    for (const pair of this.#pairs) end(pair);
  }

  /** From now on connections are reset at a COMMIT: when it has not been sent on yet, or before its answer has come. */
  cutCommits(when: "before" | "after" | null): void {
    this.#cutting = when;
  }

  /** From now on this goes nowhere, on open connections and new ones. */
  silence(what: Silence): void {
    this.#silence = what;
  }

  /** What was swallowed arrives after all, or never, because the connections are reset. */
  endSilence(how: "delivered" | "lost"): void {
    this.#silence = null;
    if (how === "lost") this.reset();
    for (const { held } of this.#pairs) for (const deliver of held.splice(0)) deliver();
  }

  #join(server: Socket): void {
    const database = connect(Number(this.#target.port), this.#target.hostname);
    const pair: Pair = { server, database, held: [], isCut: false };
    this.#pairs.add(pair);
    for (const socket of [server, database]) socket.setNoDelay(true).on("error", () => undefined);
    server.on("data", (data) => this.#toDatabase(pair, data));
    database.on("data", (data) => this.#toServer(pair, data));
    // Ended, not destroyed: what was sent last is to arrive.
    server.on("close", () => this.#carry(pair, "everything", () => database.end()));
    database.on("close", () => {
      this.#pairs.delete(pair);
      if (pair.isCut) server.resetAndDestroy();
      else this.#carry(pair, "answers", () => server.end());
    });
  }

  #toDatabase(pair: Pair, data: Buffer): void {
    this.#carry(pair, "everything", () => {
      if (!data.includes(COMMIT) || this.#cutting === null || Math.random() > SHARE_OF_COMMITS) {
        pair.database.write(data);
        return;
      }
      this.hits++;
      pair.isCut = true;
      if (this.#cutting === "before") {
        end(pair);
        return;
      }
      // The database does as it was told, and nobody hears of it: the connection breaks at once, or when the answer is due.
      pair.database.write(data);
      if (Math.random() < 0.5) pair.server.resetAndDestroy();
      else pair.database.once("data", () => pair.server.resetAndDestroy());
    });
  }

  #toServer(pair: Pair, data: Buffer): void {
    if (pair.isCut) return;
    this.#carry(pair, "answers", () => pair.server.write(data));
  }

  #carry(pair: Pair, what: Silence, deliver: () => void): void {
    // Silence about everything includes answers.
    if (this.#silence !== "everything" && this.#silence !== what) {
      deliver();
      return;
    }
    this.hits++;
    pair.held.push(deliver);
  }
}

function end({ server, database, held }: Pair): void {
  held.length = 0;
  server.resetAndDestroy();
  database.resetAndDestroy();
}
