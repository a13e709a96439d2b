/** Requests by hand that a server refuses, with a stray canary wherever a careless caller could put something. */

import { connect } from "node:net";
import { text as readText } from "node:stream/consumers";

import { MAX_RECORD_BYTES, MIN_RECORD_BYTES, RECORD_MEDIA_TYPE, RecordState, recordPath } from "@tacenda/protocol";

import type { Canaries } from "./canaries.ts";

interface Request {
  method?: string;
  path: string;
  token?: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array<ArrayBuffer>;
}

/** Sends them all, and gives the statuses they got. `path` is that of a record at version 3. */
export async function misuse(url: string, canaries: Canaries, token: string, path: string): Promise<Set<number>> {
  const statuses = new Set<number>();
  const send = async ({ method = "GET", path, token: bearer = token, headers = {}, body }: Request) => {
    const authorization = `Bearer ${bearer}`;
    const answer = await fetch(url + path, { method, headers: { authorization, ...headers }, ...(body && { body }) });
    await answer.arrayBuffer();
    statuses.add(answer.status);
  };
  const { project, store, stray, rootToken } = canaries;
  const inUrl = encodeURIComponent(stray);
  const stores = `/v1/projects/${project}/stores`;
  const put = (headers: Record<string, string>, body: Uint8Array<ArrayBuffer>, at = path): Request => ({
    method: "PUT",
    path: at,
    headers: { "content-type": RECORD_MEDIA_TYPE, ...headers },
    body,
  });
  const json = (method: string, at: string, body: unknown, headers: Record<string, string> = {}): Request => ({
    method,
    path: at,
    token: rootToken,
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });

  // Where ids, hashes and queries stand.
  await send({ path: `/${inUrl}` });
  await send({ path: `/v1/projects/${inUrl}/stores`, token: rootToken });
  await send({ path: `${stores}/${inUrl}`, token: rootToken });
  await send({ path: `${stores}/${store}/records/${inUrl}` });
  await send({ path: `${path}?version=${inUrl}` });
  await send({ path: `${path}?${inUrl}=1&token=${inUrl}` });
  await send({ method: "DELETE", path: `/v1/projects/${project}/tokens/${inUrl}`, token: rootToken });
  // In headers.
  await send({ path, token: stray });
  await send({ path, headers: { "user-agent": stray, cookie: stray, referer: stray, "x-request-id": stray } });
  await send({ path, headers: { "tacenda-request-id": stray, "if-none-match": stray, origin: stray } });
  await send({ path, headers: { "if-none-match": '"3"' } });
  await send(put({ "if-match": stray }, sealedRecord()));
  await send(put({ "content-type": stray, "if-match": '"3"' }, sealedRecord()));
  await send({ method: "OPTIONS", path, headers: { origin: stray, "access-control-request-headers": "x-stray" } });
  // In bodies.
  await send(json("POST", stores, `{"id": "${stray}`));
  await send(json("POST", stores, { id: stray }));
  await send(json("POST", stores, { id: "fine", [stray]: stray }));
  await send(json("POST", stores, { id: "fine", secrets: stray, maxVersions: stray }));
  await send(
    json("POST", `/v1/projects/${project}/tokens`, { name: "n", grants: [{ stores: [stray], permissions: [stray] }] }),
  );
  await send(put({ "if-match": '"3"' }, bytesOf(stray)));
  // Refused for other reasons.
  await send({ path, headers: { authorization: "" } });
  await send(put({}, sealedRecord()));
  await send(put({ "if-match": '"1"' }, sealedRecord()));
  await send(put({ "if-none-match": "*" }, sealedRecord()));
  await send(put({ "if-match": '"3"' }, new Uint8Array(MAX_RECORD_BYTES + 1)));
  await send(json("PATCH", path, { protected: true }, { "if-match": '"3"' }));
  await send(put({ "if-match": '"3"' }, sealedRecord({ state: RecordState.tombstone })));
  await send(json("PATCH", path, { active: false }, { "if-match": '"3"' }));
  await send({ path });
  await send(json("PATCH", path, { active: true, protected: false }, { "if-match": '"3"' }));
  const expired = `/${recordPath(project, store, crypto.getRandomValues(new Uint8Array(32)))}`;
  await send(put({ "if-none-match": "*" }, sealedRecord({ expiresAt: 1_000 }), expired));
  await send({ path: expired });
  // No HTTP at all.
  await sendRaw(url, `GET /${inUrl} HTTP/9.9\r\nhost: ${stray}\r\n\r\n`);
  await sendRaw(url, `GET /livez HTTP/1.1\r\nhost: host\r\nbad header ${stray}\r\n\r\n`);
  await sendRaw(url, `GET /livez HTTP/1.1\r\nhost: ${stray}\r\nconnection: close\r\n\r\n`);
  return statuses;
}

/** Bytes with a good head, which is all of a record that a server reads. */
function sealedRecord({ state = 0, expiresAt = 0 } = {}): Uint8Array<ArrayBuffer> {
  const record = new Uint8Array(MIN_RECORD_BYTES);
  record.set([1, 1, state]);
  new DataView(record.buffer).setBigUint64(3, BigInt(expiresAt));
  return record;
}

/** The text at the start of a body long enough to be a record. */
function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(MIN_RECORD_BYTES);
  bytes.set(new TextEncoder().encode(text));
  return bytes;
}

async function sendRaw(url: string, text: string): Promise<void> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.write(text);
  if (!(await readText(socket)).startsWith("HTTP/1.1 ")) throw new Error("The server did not answer in HTTP.");
}
