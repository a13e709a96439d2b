/** Comparing secrets without showing them; spec/http.md § Secret check. */

import { RECORD_MEDIA_TYPE, storePath } from "@tacenda/protocol";

import { errorBody, errorOf } from "./answer.js";
import type { CallOptions } from "./record-api.js";
import type { Transport } from "./transport.js";

/** What the server says of a secret check. It may lie: see SECURITY.md. */
export type SecretVerdict = "matches" | "differs" | "unregistered";

export class SecretCheckApi {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Compares 32 bytes with what is registered, or registers them; 64 bytes add the second half to a store that knows the first. */
  async compare(
    { project, storeId }: { project: string; storeId: string },
    check: Uint8Array<ArrayBuffer>,
    options: CallOptions,
  ): Promise<SecretVerdict> {
    const answer = await this.#transport.send({
      method: "PUT",
      path: `${storePath(project, storeId)}/secret-check`,
      headers: { "content-type": RECORD_MEDIA_TYPE },
      body: check,
      changesNothing: true,
      maxBytes: 0,
      signal: options.signal,
      timeout: options.timeout,
    });
    if (answer.status === 204) return "matches";
    const code = errorBody(answer)?.code;
    if (code === "secret_mismatch") return "differs";
    // That there is no such store is for the read or write itself to tell; older servers have no such route.
    if (code === "secret_unregistered" || code === "not_found") return "unregistered";
    throw errorOf(answer);
  }

  /** Forgets one registered check. Nothing happens where it is not registered. */
  async remove(
    { project, storeId }: { project: string; storeId: string },
    check: Uint8Array<ArrayBuffer>,
    options: CallOptions,
  ): Promise<void> {
    const answer = await this.#transport.send({
      method: "DELETE",
      path: `${storePath(project, storeId)}/secret-check`,
      headers: { "content-type": RECORD_MEDIA_TYPE },
      body: check,
      maxBytes: 0,
      signal: options.signal,
      timeout: options.timeout,
    });
    const code = errorBody(answer)?.code;
    if (answer.status !== 204 && code !== "secret_mismatch" && code !== "secret_unregistered") throw errorOf(answer);
  }
}
