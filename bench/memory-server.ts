/** A server that is only a `fetch`: it answers at once from memory, so that what remains is the client's own work. */

import { RECORD_MEDIA_TYPE, versionTag } from "@tacenda/protocol";

/** Acknowledges every write as version 1 and checks nothing. */
export class MemoryServer {
  /** By URL. */
  readonly records: Map<string, Uint8Array<ArrayBuffer>>;

  /** Whether writes are kept. Reading their bodies costs time, so not while writes are measured. */
  keeps = true;

  constructor(records = new Map<string, Uint8Array<ArrayBuffer>>()) {
    this.records = records;
  }

  readonly fetch = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const request = input instanceof Request ? input : new Request(input, init);
    if (request.method === "GET") return this.#read(request.url);
    // Whatever else a client asks for, a secret check for instance, is granted.
    if (!request.url.includes("/records/")) return new Response(null, { status: 204 });
    if (this.keeps) this.records.set(request.url, new Uint8Array(await request.arrayBuffer()));
    return new Response(null, { status: 201, headers: { etag: versionTag(1) } });
  };

  #read(url: string): Response {
    const record = this.records.get(url);
    if (record === undefined) throw new Error("The benchmark read a key that it has not written.");
    return new Response(record, { headers: { etag: versionTag(1), "content-type": RECORD_MEDIA_TYPE } });
  }
}
