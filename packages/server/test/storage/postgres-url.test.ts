/** A URL whose password was not escaped is refused, and nothing of it is shown or looked up; docs/postgresql.md § The URL. */

import { Socket } from "node:net";
import { join } from "node:path";
import { inspect } from "node:util";

import { expect, test, vi } from "vitest";

import { backup } from "../../src/cli/backup.js";
import { InvalidOptionError } from "../../src/startup-error.js";
import { parsePostgresUrl } from "../../src/storage/postgres-url.js";
import { freshFolder } from "../world.js";

const FORM = /^TACENDA_DATABASE_URL \(or --database-url\) must be of the form postgres:\/\/.* written as %XX\.$/;
/** No three characters of these are in any sentence of ours. */
const PARTS = ["zQ7", "Xk9", "4jJ"];
const MARKS = [
  ...Array.from(`@/:?#%&=,+;!$'"()[]{}<>|\\^~\` `),
  ...["://", "@@", "?host=", "?user=", "&dbname=", "%zz", ":1@", "@[", "é"],
];
/** Every pair of marks between the parts. */
const PASSWORDS = MARKS.flatMap((one) =>
  ["", ...MARKS].map((other) => `${PARTS[0] ?? ""}${one}${PARTS[1] ?? ""}${other}${PARTS[2] ?? ""}`),
);
const urlWith = (password: string) => `postgres://tacenda:${password}@127.0.0.1:1/tacenda?sslmode=disable`;

/** Whether the text has three characters of the password in a row, one of them of its parts. */
function hasPartOf(password: string, text: string): boolean {
  return Array.from(password, (_, index) => password.slice(index, index + 3)).some(
    (piece) => piece.length === 3 && /[zQ7Xk94jJ]/.test(piece) && text.includes(piece),
  );
}

/** The hosts, or what the URL was refused with. */
function hostsOf(url: string): string[] | InvalidOptionError {
  try {
    const { hosts, database, user } = parsePostgresUrl(url);
    expect([database, user]).toEqual(["tacenda", "tacenda"]);
    return hosts.map(({ host, port }) => `${host}:${port}`);
  } catch (error) {
    if (error instanceof InvalidOptionError) return error;
    throw error;
  }
}

test("no odd password becomes a part of a host or a database, nor of an error", () => {
  for (const password of PASSWORDS) {
    const found = hostsOf(urlWith(password));
    if (found instanceof InvalidOptionError) {
      expect([password, hasPartOf(password, found.message)]).toEqual([password, false]);
    } else {
      expect([password, ...found]).toEqual([password, "127.0.0.1:1"]);
    }
  }
});

test.each(["p@ss/word:1", "pa/ssw0rd", "s3cr/et@pw", "what?now", "a#b", "p@ss", "x@y?host=z", "q?user=a&password=b"])(
  "%s is refused as not escaped, wherever it is cut",
  (password) => {
    for (const url of [urlWith(password), `postgres://tacenda:${password}@db.example.com:5432,other/tacenda`]) {
      expect(() => parsePostgresUrl(url)).toThrow(FORM);
    }
    expect(parsePostgresUrl(urlWith(encodeURIComponent(password))).password).toBe(password);
  },
);

test("a database is named in the path without @ : and /, and in parameters there is no @ as it is", () => {
  for (const rest of ["a:b", "a/b", "a@b", "db?password=p@ss", "db?user=me@there"]) {
    expect(() => parsePostgresUrl(`postgres://tacenda@127.0.0.1/${rest}`)).toThrow(FORM);
  }
  const { database, sslRootCert, hosts, password } = parsePostgresUrl(
    "postgres://me:p%40s:s@[::1]:7,db/a%2Fb%3Ac?sslrootcert=/etc/ssl/ca.pem",
  );
  expect([database, sslRootCert, password]).toEqual(["a/b:c", "/etc/ssl/ca.pem", "p@s:s"]);
  expect(hosts.map(({ host }) => host)).toEqual(["::1", "db"]);
});

test(
  "a command says no part of it, and connects to nothing but the host that is named",
  { timeout: 60_000 },
  async () => {
    const folder = await freshFolder();
    let output = "";
    const write = (text: unknown) => {
      output += String(text);
      return true;
    };
    const spies = [process.stdout, process.stderr].map((stream) => vi.spyOn(stream, "write").mockImplementation(write));
    const tried = new Set<string>();
    const connect = vi.spyOn(Socket.prototype, "connect").mockImplementation(function (
      this: Socket,
      ...args: unknown[]
    ) {
      tried.add(JSON.stringify(args.slice(0, 2)));
      queueMicrotask(() => this.destroy(Object.assign(new Error("refused"), { code: "ECONNREFUSED" })));
      return this;
    });
    try {
      for (const password of ["plain-zQ7", "zQ7@Xk9/4jJ:1", ...PASSWORDS.filter((_, index) => index % 7 === 0)]) {
        output = "";
        const options = { dataDir: join(folder, "data"), databaseUrl: urlWith(password) };
        const error: unknown = await backup(join(folder, "backup"), options).catch((thrown: unknown) => thrown);
        const all = output + (error instanceof Error ? error.message : "");
        expect([password, all.length > 0, hasPartOf(password, all)]).toEqual([password, true, false]);
        // What --log-level debug would show, too.
        const deep = inspect(error, { depth: 9, showHidden: true });
        expect([password, PARTS.some((part) => deep.includes(part))]).toEqual([password, false]);
      }
    } finally {
      for (const spy of [...spies, connect]) spy.mockRestore();
    }
    expect([...tried]).toEqual(['[1,"127.0.0.1"]']);
  },
);
