/** Calls on one key of a transit engine, and what its refusals mean to an operator; spec/envelope.md § Transit. */

import type { z } from "zod";

import { KeyProviderError } from "../key-provider.js";
import { TransitHttp, TransitRefusal, type TransitRequest } from "./transit-http.js";
import { TransitToken } from "./transit-token.js";
import type { TransitAddress } from "./transit-uri.js";

export interface TransitCall<Answer> extends Omit<TransitRequest, "path"> {
  /** Below the mount, for instance `encrypt/tacenda`. */
  path: string;
  answer: z.ZodType<Answer>;
  /** What a 400 means here; for the others there is a general word. */
  badRequest?: (refusal: TransitRefusal) => Promise<KeyProviderError | undefined> | KeyProviderError;
}

export class TransitClient {
  readonly id: string;
  readonly mount: string;
  readonly name: string;
  readonly token: TransitToken;
  readonly #http: TransitHttp;

  constructor(address: TransitAddress, readToken: () => Promise<string>) {
    this.id = address.id;
    this.mount = address.mount;
    this.name = address.name;
    this.#http = new TransitHttp(address.origin, address.namespace);
    this.token = new TransitToken(this.#http, readToken);
  }

  /** @throws {KeyProviderError} */
  async call<Answer>(call: TransitCall<Answer>): Promise<Answer> {
    const { answer, badRequest, ...request } = call;
    const path = `${this.mount}/${call.path}`;
    let json: unknown;
    try {
      json = await this.#http.send(await this.token.current(), { ...request, path });
    } catch (error) {
      if (!(error instanceof TransitRefusal)) throw error;
      const meaning = await this.#meaning(error, request.method, path);
      throw meaning ?? (await badRequest?.(error)) ?? this.#unexpected(error, path);
    }
    const parsed = answer.safeParse(json);
    if (!parsed.success) throw this.malformed();
    return parsed.data;
  }

  malformed(): KeyProviderError {
    return this.#http.malformed();
  }

  unavailable(what: string): KeyProviderError {
    return new KeyProviderError("unavailable", `The key ${this.id} ${what}`);
  }

  close(): void {
    this.token.close();
    this.#http.close();
  }

  async #meaning(error: TransitRefusal, method: string, path: string): Promise<KeyProviderError | undefined> {
    const key = `${this.mount}/keys/${this.name}`;
    if (error.status === 403) return this.#forbidden(error, method, path);
    if (error.says("no handler for route", "unsupported path")) {
      return this.unavailable(
        `is of an engine that is not there. Enable it: vault secrets enable -path=${this.mount} transit ` +
          "(or bao …), or name the right mount and namespace in the URI.",
      );
    }
    if (error.status === 404 || error.says("encryption key not found", "no existing key named", "invalid key name")) {
      return this.unavailable(
        `does not exist. If it was never made, make it: vault write ${key} type=aes256-gcm96 derived=true (or bao …). ` +
          "If it was, restore it: nothing that it wrapped opens without it.",
      );
    }
    if (error.says("soft-deleted")) {
      return this.unavailable(`is soft-deleted. Restore it: bao write -f ${key}/soft-delete-restore`);
    }
    return undefined;
  }

  async #forbidden(error: TransitRefusal, method: string, path: string): Promise<KeyProviderError> {
    const isKnown = error.says("invalid token", "bad token") ? false : await this.token.isKnown();
    if (isKnown === false) {
      return this.unavailable(
        "cannot be used: the token has ended, was revoked, is of another namespace, or may not even look itself up. " +
          "Give the server a new one (see docs/key-providers/transit.md).",
      );
    }
    const capability = method === "GET" ? "read" : "update";
    return this.unavailable(
      `cannot be used: the token's policy lacks path "${path}" { capabilities = ["${capability}"] }.`,
    );
  }

  #unexpected(error: TransitRefusal, path: string): KeyProviderError {
    return this.unavailable(`cannot be used: ${path} answered HTTP ${error.status}. See the audit log of the server.`);
  }
}
