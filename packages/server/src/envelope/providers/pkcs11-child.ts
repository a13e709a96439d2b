/**
 * The process in which the library of a token's maker runs, started by pkcs11-process.ts: a library that blocks or crashes takes
 * no server with it, and sees neither its records nor its tokens; spec/envelope.md § Hardware tokens.
 *
 * Run by Node as it stands when nothing was built: hence the endings of the imports, here and in what is imported.
 */

import { importPkcs11js, nameOf } from "./pkcs11-cryptoki.ts";
import { TokenFailure, type TokenFault, type TokenOptions } from "./pkcs11-session.ts";
import { Token } from "./pkcs11-token.ts";

/** What the process is asked to do first: nothing of it asks the token anything. */
export interface Start {
  call: "start";
  input: TokenOptions & { modulePath: string };
}

/** What it is asked to do then: a method of Token, and what it takes. */
export type TokenCall = {
  [Name in Exclude<keyof Token, "close">]: { call: Name; input: Parameters<Token[Name]>[0] };
}[Exclude<keyof Token, "close">];

/** What a call gives. */
export type TokenResult<Call extends TokenCall> = ReturnType<Token[Call["call"]]>;

/** `package`: pkcs11js is not installed or does not load. `module`: the maker's library does not. */
export type ChildFault = TokenFault | "package" | "module";

export type Answer = { output: unknown } | { fault: ChildFault; message: string };

let token: Token | undefined;

async function start({ modulePath, ...options }: Start["input"]): Promise<Answer> {
  let pkcs11js;
  try {
    pkcs11js = await importPkcs11js();
  } catch (error) {
    return { fault: "package", message: error instanceof Error ? error.message : "It does not load." };
  }
  const cryptoki = new pkcs11js.PKCS11();
  try {
    cryptoki.load(modulePath);
  } catch {
    return { fault: "module", message: `${modulePath} does not load as a PKCS#11 module: name the right file.` };
  }
  token = new Token(pkcs11js, cryptoki, options);
  return { output: null };
}

function call(token: Token, { call, input }: TokenCall): Answer {
  try {
    return { output: token[call](input as never) };
  } catch (error) {
    if (error instanceof TokenFailure) return { fault: error.fault, message: error.message };
    return { fault: "lost", message: `The token failed (${nameOf(error)}): see that it is there and reachable.` };
  }
}

async function answer(request: Start | TokenCall): Promise<Answer> {
  if (request.call === "start") return await start(request.input);
  if (token === undefined) throw new Error("The first request is start.");
  return call(token, request);
}

process.on("message", (request: Start | TokenCall) => {
  void answer(request).then((answered) => process.send?.(answered));
});

// The server lets it go when it is done: a signal to the whole group, as from Ctrl-C, must not end it before.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});

process.on("disconnect", () => {
  try {
    token?.close();
  } finally {
    process.exit();
  }
});
