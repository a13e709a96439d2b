/** Real proxies of Debian's packages, with the configurations that docs/deploying.md shows. */

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { setDefaultCACertificates, getCACertificates } from "node:tls";

import { onTestFinished } from "vitest";

import { freePort } from "../postgres.ts";
import { freshFolder } from "../server-process.ts";
import { debianProgram } from "./debian-program.ts";

const GUIDE = join(import.meta.dirname, "../../docs/deploying.md");
const START_LIMIT = 20_000;

export const PROXIES = {
  nginx: { program: debianProgram("nginx", "usr/sbin/nginx"), language: "nginx", configure: nginx },
  caddy: { program: debianProgram("caddy", "usr/bin/caddy"), language: "caddyfile", configure: caddy },
} as const;
export type ProxyName = keyof typeof PROXIES;

export interface Proxy {
  url: string;
  /** All that it has written: its output, and every file of its folder. */
  written(): string;
}

interface Place {
  folder: string;
  port: number;
}

/** What a program needs besides the guide's text, and how it is called. */
interface Configured {
  text: string;
  args: readonly string[];
}

/** The text of the guide's one block in this language. */
function guided(language: string): string {
  const [, text] = new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, "ms").exec(readFileSync(GUIDE, "utf8")) ?? [];
  if (text === undefined) throw new Error(`docs/deploying.md has no block in ${language}.`);
  return text;
}

/** Every one must be there: the guide may have changed. */
function replaceAll(text: string, replacements: Readonly<Record<string, string>>): string {
  for (const [from, to] of Object.entries(replacements)) {
    if (!text.includes(from)) throw new Error(`The guide's configuration has no ${from} any more: adapt the test.`);
    text = text.replaceAll(from, to);
  }
  return text;
}

/** Starts a proxy before the server at `upstream`. It ends with the test. `alter`: of the guide's text. */
export async function startProxy(name: ProxyName, upstream: string, alter = (text: string) => text): Promise<Proxy> {
  const { program, language, configure } = PROXIES[name];
  const place = { folder: await freshFolder(), port: await freePort() };
  // Workers of nginx are of another user.
  chmodSync(place.folder, 0o711);
  certify(place.folder);
  const text = replaceAll(alter(guided(language)), {
    "127.0.0.1:4200": new URL(upstream).host,
    "/etc/ssl/tacenda": place.folder,
  });
  const { text: whole, args } = configure(text, place);
  writeFileSync(join(place.folder, "config"), whole);
  let output = "";
  const child = spawn(program ?? "", args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env.PATH, HOME: place.folder, XDG_DATA_HOME: place.folder, XDG_CONFIG_HOME: place.folder },
  });
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part) => (output += String(part)));
  const closed = once(child, "close");
  onTestFinished(async () => {
    child.kill("SIGTERM");
    await closed;
  });
  const url = `https://localhost:${place.port}`;
  await answers(url, child, () => output);
  return { url, written: () => output + filesOf(place.folder) };
}

function nginx(text: string, { folder, port }: Place): Configured {
  mkdirSync(join(folder, "log"));
  const site = replaceAll(text, { "listen 443": `listen 127.0.0.1:${port}`, "/var/log/nginx": join(folder, "log") });
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (of) => `${of}_temp_path ${folder}/${of};`,
  );
  const whole = [
    `daemon off; pid ${folder}/pid; error_log ${folder}/log/default.log; events {}`,
    `http { access_log ${folder}/log/access.log; ${temporary.join(" ")}\n${site}\n}`,
  ];
  return {
    text: whole.join("\n"),
    args: ["-p", folder, "-e", join(folder, "log/start.log"), "-c", join(folder, "config")],
  };
}

function caddy(text: string, { folder, port }: Place): Configured {
  const site = replaceAll(text, { "tacenda.example.com": `https://localhost:${port}` });
  // Nothing of it is to listen anywhere else.
  const whole = site.replace("{\n", "{\n\tadmin off\n\tauto_https disable_redirects\n");
  return { text: whole, args: ["run", "--adapter", "caddyfile", "--config", join(folder, "config")] };
}

/** A certificate for "localhost", which this process then trusts. */
function certify(folder: string): void {
  const at = (name: string) => join(folder, name);
  const request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"];
  const names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", at("privkey.pem"), "-out", at("fullchain.pem")];
  execFileSync("openssl", [...request, ...names], { stdio: "ignore" });
  setDefaultCACertificates([...getCACertificates("default"), readFileSync(at("fullchain.pem"), "utf8")]);
}

async function answers(url: string, child: ChildProcess, output: () => string): Promise<void> {
  const deadline = performance.now() + START_LIMIT;
  for (;;) {
    const ok = await fetch(`${url}/livez`).then(
      () => true,
      () => false,
    );
    if (ok) return;
    if (child.exitCode !== null || performance.now() > deadline)
      throw new Error(`The proxy does not start: ${output()}`);
    await sleep(50);
  }
}

/** Keys and certificates apart. */
function filesOf(folder: string): string {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith(".pem"))
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), "latin1"))
    .join("\n");
}
