/**
 * A transit server on the wire, for tests: HTTP, tokens, policies, and keys of transit-double-key.ts. No Vault or OpenBao runs
 * here (there is no registry of containers); transit-contract.test.ts runs on a real one where its URI is given. What it takes from
 * OpenBao's source (internal/ and sdk/), and where Vault differs:
 *
 * - The token comes in X-Vault-Token (sdk/helper/consts). One that is unknown or ended: 403 {"errors":["permission denied"]}; a path
 *   that no policy allows: the same (sdk/logical/error.go, response_util.go). Newer Vault adds "invalid token" to the former
 *   (hashicorp/vault pull request 26687, concepts/tokens "Error Responses"): `vaultTexts`.
 * - Policies are capabilities per path, a final * matching any rest; GET needs read, POST update. The existence check of encrypt/NAME
 *   makes it create where the key is missing, and makes the key then, derived if a context came (path_encrypt.go). Every token has the
 *   default policy's lookup-self and renew-self (vault/policy/policy_store.go) unless it was made without.
 * - A missing key: GET 404 {"errors":[]} (RespondErrorCommon: ReadOperation, resp == nil); encrypt, decrypt, rewrap 400 "encryption
 *   key not found"; config, trim, rotate 400 with texts of their own. A missing mount: 404 "no handler for route".
 * - Sealed: 503 {"errors":["Vault is sealed"]} before anything else (consts/error.go, AdjustErrorStatusCode). A standby that does not
 *   forward: 307 to the active node (http/handler.go respondStandby). Rate limits: 429.
 * - lookup-self: ttl in whole seconds, 0 and no expire_time for a token without end (vault/token_store.go handleLookup). renew-self: the
 *   token's own ttl again, cut at its maximum without an error; "lease is not renewable" as 400 (vault/expiration.go).
 * - rotate, config and trim answer with the key's description; `bare` makes it 204, as older Vault (path_rotate.go returned nothing).
 */

import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

import { BadRequest, DoubleKey, type DoubleKeyAttributes } from "./transit-double-key.js";

export interface DoubleToken {
  /** Capabilities by path; "root" may do everything. */
  policy: "root" | Record<string, readonly string[]>;
  withoutDefault?: boolean;
  /** Seconds; 0 is without end. */
  ttl?: number;
  renewable?: boolean;
  /** Seconds from now on. */
  maxTtl?: number;
}

interface LiveToken extends DoubleToken {
  endsAt: number;
  lastEnd: number;
}

interface Seen {
  method: string;
  path: string;
  token: string | undefined;
  namespace: string | undefined;
}

interface Answer {
  status: number;
  body?: string;
  headers?: Record<string, string>;
}

/** The least policy for a key, as the guide gives it. */
export function leastPolicy(mount: string, name: string): Record<string, readonly string[]> {
  return {
    [`${mount}/keys/${name}`]: ["read"],
    [`${mount}/encrypt/${name}`]: ["update"],
    [`${mount}/decrypt/${name}`]: ["update"],
    [`${mount}/rewrap/${name}`]: ["update"],
    [`${mount}/keys/${name}/rotate`]: ["update"],
    [`${mount}/keys/${name}/config`]: ["update"],
    [`${mount}/keys/${name}/trim`]: ["update"],
  };
}

const DEFAULT_POLICY = { "auth/token/lookup-self": ["read"], "auth/token/renew-self": ["update"] };

export class TransitDouble {
  readonly mount = "transit";
  readonly keys = new Map<string, DoubleKey>();
  readonly seen: Seen[] = [];
  state: "active" | "sealed" | "standby" = "active";
  /** Where a standby points to. */
  active = "";
  /** Milliseconds before every answer. */
  delay = 0;
  /** Spaces after every answer. */
  padding = 0;
  /** Begins every answer, and goes no further. */
  stalls = false;
  vaultTexts = false;
  bare = false;
  /** Answers in the server's stead where it gives something; null drops the connection. */
  instead: (request: Seen) => Answer | null | undefined = () => undefined;
  readonly #tokens = new Map<string, LiveToken>();
  #server: Server | null = null;
  #port = 0;

  static async start(): Promise<TransitDouble> {
    const double = new TransitDouble();
    await double.listen();
    return double;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Listens, where it did before if it did. */
  async listen(): Promise<void> {
    const server = createServer((request, response) => void this.#serve(request, response));
    await new Promise<void>((resolve) => server.listen(this.#port, "127.0.0.1", resolve));
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  /** Ends every connection and takes no more. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (!server) return;
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
  }

  createKey(name: string, attributes?: Partial<DoubleKeyAttributes>): DoubleKey {
    const key = new DoubleKey(name, attributes);
    this.keys.set(name, key);
    return key;
  }

  createToken(token: DoubleToken): string {
    const id = `hvs.${randomBytes(18).toString("base64url")}`;
    const now = Date.now();
    const endsAt = token.ttl ? now + token.ttl * 1000 : Infinity;
    this.#tokens.set(id, { ...token, endsAt, lastEnd: token.maxTtl ? now + token.maxTtl * 1000 : Infinity });
    return id;
  }

  revoke(token: string): void {
    this.#tokens.delete(token);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const header = (name: string) => request.headers[name] as string | undefined;
    const path = (request.url ?? "").replace(/^\/v1\//, "");
    const seen = {
      method: request.method ?? "",
      path,
      token: header("x-vault-token"),
      namespace: header("x-vault-namespace"),
    };
    this.seen.push(seen);
    if (this.delay > 0) await sleep(this.delay);
    const instead = this.instead(seen);
    if (instead === null) {
      request.socket.destroy();
      return;
    }
    const answer = instead ?? this.#answer(seen, Buffer.concat(chunks).toString("utf8"));
    response.writeHead(answer.status, { "Content-Type": "application/json", ...answer.headers });
    if (this.stalls) {
      response.write("{");
      return;
    }
    response.end(answer.body === undefined ? undefined : answer.body + " ".repeat(this.padding));
  }

  #answer(seen: Seen, body: string): Answer {
    if (this.state === "sealed") return failure(503, "Vault is sealed");
    if (this.state === "standby") return { status: 307, headers: { Location: `${this.active}/v1/${seen.path}` } };
    const token = this.#tokens.get(seen.token ?? "");
    if (!token || token.endsAt <= Date.now()) {
      return failure(
        403,
        this.vaultTexts ? "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n" : "permission denied",
      );
    }
    const [, action = "", name = ""] = /^transit\/(encrypt|decrypt|rewrap|keys)\/([\w.-]+)/.exec(seen.path) ?? [];
    const isNew = action === "encrypt" && !this.keys.has(name);
    const capability = seen.method === "GET" ? "read" : isNew ? "create" : "update";
    if (!allows(token, seen.path, capability)) return failure(403, "permission denied");
    try {
      const parsed = (body === "" ? {} : JSON.parse(body)) as Record<string, unknown>;
      if (seen.path === "auth/token/lookup-self") return success(lookUp(token));
      if (seen.path === "auth/token/renew-self") return renew(token);
      if (action === "") return failure(404, `no handler for route "${seen.path}". route entry not found.`);
      return action === "keys" ? this.#manage(seen, name, parsed) : this.#cipher(action, name, parsed);
    } catch (error) {
      if (error instanceof BadRequest) return failure(400, error.message);
      throw error;
    }
  }

  #cipher(action: string, name: string, body: Record<string, unknown>): Answer {
    const context = decode(body.context);
    if (action === "encrypt" && !this.keys.has(name)) this.createKey(name, { derived: context.length > 0 });
    const key = this.keys.get(name);
    if (!key) throw new BadRequest("encryption key not found");
    if (action === "encrypt") {
      if (typeof body.plaintext !== "string") throw new BadRequest("missing plaintext to encrypt");
      return success({ ciphertext: key.encrypt(decode(body.plaintext), context), key_version: key.latest });
    }
    if (typeof body.ciphertext !== "string" || body.ciphertext === "") {
      throw new BadRequest("missing ciphertext to decrypt");
    }
    const plaintext = key.decrypt(body.ciphertext, context);
    if (action === "decrypt") return success({ plaintext: plaintext.toString("base64") });
    return success({ ciphertext: key.encrypt(plaintext, context), key_version: key.latest });
  }

  #manage({ method, path }: Seen, name: string, body: Record<string, unknown>): Answer {
    const key = this.keys.get(name);
    const action = path.split("/")[3];
    if (method === "GET") return key ? success(key.describe()) : { status: 404, body: '{"errors":[]}' };
    if (action === "rotate") {
      if (!key) throw new BadRequest("key not found");
      key.rotate();
    } else if (action === "config") {
      if (!key) throw new BadRequest(`no existing key named ${name} could be found`);
      key.configure(body);
    } else {
      if (!key) throw new BadRequest("invalid key name");
      key.trim(body);
    }
    return this.bare ? { status: 204 } : success(key.describe());
  }
}

function allows(token: DoubleToken, path: string, capability: string): boolean {
  if (token.policy === "root") return true;
  const policy = { ...(token.withoutDefault ? {} : DEFAULT_POLICY), ...token.policy };
  return Object.entries(policy).some(([pattern, capabilities]) => {
    const isMatch = pattern.endsWith("*") ? path.startsWith(pattern.slice(0, -1)) : path === pattern;
    return isMatch && capabilities.includes(capability);
  });
}

function lookUp(token: LiveToken): Record<string, unknown> {
  const isEndless = token.endsAt === Infinity;
  return {
    ttl: isEndless ? 0 : Math.floor((token.endsAt - Date.now()) / 1000),
    creation_ttl: token.ttl ?? 0,
    expire_time: isEndless ? null : new Date(token.endsAt).toISOString(),
    renewable: token.renewable ?? false,
    type: "service",
  };
}

function renew(token: LiveToken): Answer {
  if (!token.renewable || !token.ttl) throw new BadRequest("lease is not renewable");
  token.endsAt = Math.min(Date.now() + token.ttl * 1000, token.lastEnd);
  const lease_duration = Math.round((token.endsAt - Date.now()) / 1000);
  return { status: 200, body: JSON.stringify({ auth: { lease_duration, renewable: true } }) };
}

function decode(value: unknown): Buffer {
  if (value === undefined) return Buffer.alloc(0);
  const bytes = Buffer.from(typeof value === "string" ? value : "", "base64");
  if (bytes.toString("base64") !== value) throw new BadRequest("illegal base64 data at input byte 0");
  return bytes;
}

function success(data: Record<string, unknown>): Answer {
  return {
    status: 200,
    body: JSON.stringify({ request_id: "", lease_id: "", renewable: false, data, warnings: null }),
  };
}

function failure(status: number, error: string): Answer {
  return { status, body: JSON.stringify({ errors: [error] }) };
}
