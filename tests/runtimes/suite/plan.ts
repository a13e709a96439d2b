/** What the desk tells a runtime to do, and what the runtime reports; both travel as JSON. */

import type { VectorCase } from "./vector-case.ts";

export interface Plan {
  /** The runtime's name; its stores are named after it. */
  runtime: string;
  /** The server's URL. */
  url: string;
  /** Reads, writes and deletes in every store. */
  token: string;
  /** Reads only. */
  readerToken: string;
  secret: string;
  /** Where nothing listens. */
  closedUrl: string;
  /** Redirects every request to the same path of the server. */
  redirectingUrl: string;
  /** Answers nothing. */
  silentUrl: string;
  /** Answers every request with a record that never ends. */
  endlessUrl: string;
  /** Whether TACENDA_URL, TACENDA_TOKEN and TACENDA_SECRET are in the environment. */
  hasEnvironment: boolean;
  vectors: VectorCase[];
}

export interface Failure {
  name: string;
  message: string;
}

export interface Outcome {
  passed: number;
  failures: Failure[];
}
