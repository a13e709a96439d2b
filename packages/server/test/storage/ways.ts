/** Ways to a database that a test can cut, close or freeze, in the place of the network's. */

import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";

import { onTestFinished } from "vitest";

/** A way that from `begin` on ends, once or for good, with a packet in which the client says `word`: before or after it. */
export async function cuttingWay(
  url: string,
  word: string,
  when: "before" | "after",
): Promise<{ url: string; cuts: () => number | null; begin: (how?: "once" | "for good") => void }> {
  const target = new URL(url);
  let cuts: number | null = null;
  let isForGood = false;
  const clients = new Set<Socket>();
  const way = createServer((client) => {
    if (isForGood && cuts === 1) {
      client.destroy();
      return;
    }
    clients.add(client);
    const server = connect(Number(target.port), target.hostname);
    for (const socket of [client, server]) socket.on("error", () => undefined);
    server.on("data", (data) => client.write(data)).on("close", () => client.destroy());
    client.on("close", () => server.destroy());
    client.on("data", (data) => {
      const isIt = cuts === 0 && data.includes(word);
      if (isIt) cuts = 1;
      if (!isIt || when === "after") server.write(data);
      // The server does as it was told, and nobody hears of it.
      if (isIt && when === "after") client.destroy();
      if (isIt && when === "before") server.destroy();
      if (isIt && isForGood) for (const one of clients) one.destroy();
    });
  }).listen(0, "127.0.0.1");
  await once(way, "listening");
  onTestFinished(() => void way.close());
  return {
    url: url.replace(target.host, `127.0.0.1:${(way.address() as AddressInfo).port}`),
    cuts: () => cuts,
    begin(how = "once") {
      cuts = 0;
      isForGood = how === "for good";
    },
  };
}

/** A way on which words are replaced by others of the same length: in what the server says, and in what the client does. */
export async function translatingWay(
  url: string,
  { server: said = {}, client: asked = {} }: { server?: Record<string, string>; client?: Record<string, string> },
): Promise<{ url: string; replaced: () => number }> {
  const target = new URL(url);
  let replaced = 0;
  const translate = (data: Buffer, words: Record<string, string>) => {
    let text = data.toString("latin1");
    for (const [word, other] of Object.entries(words)) {
      if (word.length !== other.length) throw new RangeError("Messages have their length before them.");
      replaced += text.split(word).length - 1;
      text = text.replaceAll(word, other);
    }
    return Buffer.from(text, "latin1");
  };
  const way = createServer((client) => {
    const server = connect(Number(target.port), target.hostname);
    for (const socket of [client, server]) socket.on("error", () => undefined);
    server.on("data", (data) => client.write(translate(data, said))).on("close", () => client.end());
    client.on("data", (data) => server.write(translate(data, asked))).on("close", () => server.destroy());
  }).listen(0, "127.0.0.1");
  await once(way, "listening");
  onTestFinished(() => void way.close());
  return {
    url: url.replace(target.host, `127.0.0.1:${(way.address() as AddressInfo).port}`),
    replaced: () => replaced,
  };
}

interface Way {
  /** Host and port. */
  place: string;
  /** Connections on it. */
  open(): number;
  cutOne(): void;
  cutAll(): void;
  /** No new connection is accepted, until `accept`. */
  refuse(): void;
  accept(): void;
  /** Connections are accepted, and nothing comes back on any. */
  freeze(): void;
}

export async function openWay(url: string): Promise<Way> {
  const target = new URL(url);
  const open = new Set<Socket>();
  let isFrozen = false;
  const way = createServer((client) => {
    const server = connect(Number(target.port), target.hostname);
    for (const socket of [client, server]) socket.on("error", () => undefined);
    open.add(client);
    client.on("close", () => {
      open.delete(client);
      server.destroy();
    });
    server.on("data", (data) => isFrozen || client.write(data)).on("close", () => client.destroy());
    client.on("data", (data) => server.write(data));
  }).listen(0, "127.0.0.1");
  await once(way, "listening");
  const { port } = way.address() as AddressInfo;
  const cut = (sockets: Iterable<Socket>) => {
    for (const socket of sockets) socket.destroy();
  };
  onTestFinished(() => {
    way.close();
    cut(open);
  });
  return {
    place: `127.0.0.1:${port}`,
    open: () => open.size,
    cutOne: () => cut([...open].slice(0, 1)),
    cutAll: () => cut(open),
    refuse: () => void way.close(),
    accept: () => void way.listen(port, "127.0.0.1"),
    freeze: () => void (isFrozen = true),
  };
}
