/** The known answers of spec/vectors, through the public calls: a `fetch` of our own sees the key hash and serves the record. */

import { type StoreOptions, Tacenda } from "@tacenda/sdk";

import { ensure, equal, failing, thrownBy } from "../check.ts";
import type { Case } from "../context.ts";
import type { Plan } from "../plan.ts";
import type { DeriveCase, GeneratedSecretCase, RecordCase, TextOrHex, VectorCase } from "../vector-case.ts";

/** spec/record.md § Head. */
const State = { value: 0, tombstone: 1, moved: 2 } as const;

/** One case per vector. */
export function vectorCases({ vectors }: Plan): Case[] {
  return vectors.map((vector) => ({ name: `vector ${vector.type}: ${vector.name}`, run: () => check(vector) }));
}

async function check(vector: VectorCase): Promise<void> {
  if (vector.type === "generated-secret") await generatedSecret(vector);
  else if (vector.type === "derive") await derive(vector);
  else await record(vector);
}

async function generatedSecret({ input, expected }: GeneratedSecretCase): Promise<void> {
  const open = () => new Tacenda({ url: "http://localhost", token: "t" }).getStore("s", { secret: input.text });
  if (expected.valid) open();
  else await failing("weak_secret", open);
}

async function derive(vector: DeriveCase): Promise<void> {
  const { expected } = vector;
  if ("error" in expected) {
    const error = await thrownBy(() => read(vector, notFound()));
    equal((error as { code?: unknown }).code, expected.error);
    return;
  }
  const { keyHash, entry } = await read(vector, notFound());
  equal([keyHash, entry], [expected.keyHash, null]);
}

async function record(vector: RecordCase): Promise<void> {
  const { input, expected } = vector;
  const answer = () => new Response(fromHex(expected.record), { headers: recordHeaders(input.version) });
  if (input.state === State.moved) {
    await failing("secret_rotated", () => read(vector, answer()));
    return;
  }
  const { keyHash, entry } = await read(vector, answer());
  equal(keyHash, expected.keyHash);
  ensure(entry !== null, "no entry");
  const { version, value, state } = entry;
  // One vector's expiry has passed since it was made.
  const expired = input.expiresAt !== 0 && input.expiresAt <= Date.now();
  if (input.state === State.tombstone || expired) {
    equal([version, value, state], [input.version, null, expired ? "expired" : "deleted"]);
    return;
  }
  equal([version, value, state], [input.version, given(input.value), "live"]);
  ensure(entry.state === "live", "not live");
  equal(entry.metadata, input.metadata === "" ? {} : JSON.parse(input.metadata));
  equal([entry.sealedAt.getTime(), entry.expiresAt?.getTime() ?? 0], [input.sealedAt, input.expiresAt]);
}

/** The key hash that is asked for, and what the SDK makes of the answer. */
async function read({ input }: Exclude<VectorCase, GeneratedSecretCase>, answer: Response) {
  let keyHash: string | undefined;
  const fetching: typeof fetch = (request, init) => {
    const { pathname } = new URL(new Request(request, init).url);
    const parts = pathname.split("/");
    if (parts.at(-1) === "secret-check") return Promise.resolve(new Response(null, { status: 204 }));
    keyHash = parts.at(-1);
    return Promise.resolve(answer);
  };
  const { project, store, secret, iterations, stretch, key, allowWeakSecret } = input;
  const tacenda = new Tacenda({ url: "http://localhost", token: "t", project, fetch: fetching });
  const options: StoreOptions = { iterations, stretch, dangerouslyAllowWeakSecret: allowWeakSecret };
  const opened = tacenda.getStore(store, { secret: given(secret), ...options });
  const entry = await opened.getEntry(key);
  return { keyHash, entry };
}

function notFound(): Response {
  return Response.json({ error: { code: "record_not_found", message: "", requestId: "" } }, { status: 404 });
}

function recordHeaders(version: number): Record<string, string> {
  return { "content-type": "application/octet-stream", etag: `"${version}"` };
}

function given(value: TextOrHex): string | Uint8Array {
  return "text" in value ? value.text : fromHex(value.hex);
}

function fromHex(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}
