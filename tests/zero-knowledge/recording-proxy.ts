/** A TCP proxy that passes bytes on unchanged and keeps a copy of all of them. */

import { once } from "node:events";
import { type AddressInfo, type Socket, connect, createServer } from "node:net";

import { onTestFinished } from "vitest";

export interface RecordingProxy {
  /** Stands for the server's URL. */
  url: string;
  /** What clients sent, connection by connection. */
  requests(): Buffer;
  /** What the server answered, connection by connection. */
  responses(): Buffer;
}

/** Listens on a free port until the test ends. */
export async function openRecordingProxy(server: URL): Promise<RecordingProxy> {
  const recorded: { requests: Buffer[]; responses: Buffer[] }[] = [];
  const clients = new Set<Socket>();
  const proxy = createServer((client) => {
    const connection = { requests: [] as Buffer[], responses: [] as Buffer[] };
    recorded.push(connection);
    const upstream = connect(Number(server.port), server.hostname);
    client.on("data", (part: Buffer) => connection.requests.push(part)).pipe(upstream);
    upstream.on("data", (part: Buffer) => connection.responses.push(part)).pipe(client);
    client.on("error", () => upstream.destroy()).on("close", () => upstream.destroy());
    upstream.on("error", () => client.destroy());
    clients.add(client);
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  onTestFinished(() => {
    proxy.close();
    for (const client of clients) client.destroy();
  });
  return {
    url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    requests: () => Buffer.concat(recorded.flatMap(({ requests }) => requests)),
    responses: () => Buffer.concat(recorded.flatMap(({ responses }) => responses)),
  };
}
