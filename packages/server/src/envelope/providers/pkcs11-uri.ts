/** Names of keys on hardware tokens, by RFC 7512; spec/envelope.md § Hardware tokens. */

import { InvalidOptionError } from "../../startup-error.js";

/** CK_TOKEN_INFO has as many bytes for it. */
const MAX_TOKEN_BYTES = 32;
/** So that the id stays below 512 characters, however it is escaped. */
const MAX_OBJECT_BYTES = 100;

/** A key on a token, and how to get at it. */
export interface Pkcs11Uri {
  /** The path part of the URI in its normal form: it names the key wherever the module and the PIN are. */
  id: string;
  /** Label of the token. */
  token: string;
  /** Serial number of the token, where two are called the same. Not part of the id: a restored token has another one. */
  serial: string | null;
  /** Label of the master keys. */
  object: string;
  /** The shared library of the token's maker: an absolute path. */
  modulePath: string;
  /** The file that holds the PIN: an absolute path. Null when the PIN is in the environment. */
  pinFile: string | null;
}

const PATH_ATTRIBUTES = new Set(["token", "object", "serial", "type"]);
const QUERY_ATTRIBUTES = new Set(["module-path", "pin-source"]);

/**
 * Reads for instance `pkcs11:token=hsm;object=tacenda?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin`.
 * @throws {InvalidOptionError} that says what is wrong, and never quotes a PIN.
 */
export function parsePkcs11Uri(uri: string): Pkcs11Uri {
  const [path = "", query = "", ...more] = uri.slice("pkcs11:".length).split("?");
  if (!uri.startsWith("pkcs11:") || more.length > 0) throw invalid("it has one part before a ? and one after it");
  const names = attributesOf(path, ";", PATH_ATTRIBUTES);
  const access = attributesOf(query, "&", QUERY_ATTRIBUTES);

  const token = required(names, "token", MAX_TOKEN_BYTES);
  const object = required(names, "object", MAX_OBJECT_BYTES);
  if ((names.get("type") ?? "secret-key") !== "secret-key") throw invalid("its type, if given, is secret-key");
  const modulePath = access.get("module-path") ?? "";
  if (!modulePath.startsWith("/")) {
    throw invalid("it needs module-path: the absolute path of the library that came with the token");
  }
  return {
    id: `pkcs11:token=${encodeURIComponent(token)};object=${encodeURIComponent(object)}`,
    token,
    serial: names.get("serial") ?? null,
    object,
    modulePath,
    pinFile: pinFileOf(access.get("pin-source")),
  };
}

function pinFileOf(source: string | undefined): string | null {
  if (source === undefined) return null;
  const file = source.replace(/^file:(?:\/\/(?=\/))?/, "");
  // RFC 7512 also knows `|command`: a server runs none.
  if (!file.startsWith("/")) throw invalid("its pin-source is file: and an absolute path");
  return file;
}

function required(attributes: ReadonlyMap<string, string>, name: string, maxBytes: number): string {
  const value = attributes.get(name) ?? "";
  const length = Buffer.byteLength(value);
  if (length === 0) throw invalid(`it needs ${name}=`);
  if (length > maxBytes) throw invalid(`its ${name} has at most ${maxBytes} bytes`);
  return value;
}

function attributesOf(part: string, separator: string, known: ReadonlySet<string>): Map<string, string> {
  const attributes = new Map<string, string>();
  for (const attribute of part.split(separator)) {
    if (attribute === "") continue;
    const equals = attribute.indexOf("=");
    const name = equals < 0 ? attribute : attribute.slice(0, equals);
    if (name === "pin-value") {
      throw invalid(
        "a PIN in it is seen by everyone who sees the command line: use pin-source=file:…, or the environment " +
          "variable TACENDA_PKCS11_PIN",
      );
    }
    // Only a name of known letters is shown: what else stands there may be a PIN.
    const shown = /^[a-z-]{1,30}$/.test(name) ? `"${name}"` : "one of its attributes";
    if (!known.has(name)) throw invalid(`${shown} is not known here; known are ${[...known].join(", ")}`);
    if (equals < 0 || attributes.has(name)) throw invalid(`${shown} is given once, with a value`);
    attributes.set(name, decoded(attribute.slice(equals + 1), shown));
  }
  return attributes;
}

function decoded(value: string, shown: string): string {
  let text: string;
  try {
    text = decodeURIComponent(value);
  } catch {
    throw invalid(`the value of ${shown} is not percent-encoded UTF-8`);
  }
  if (text.includes("\0")) throw invalid(`the value of ${shown} holds a zero byte`);
  return text;
}

function invalid(why: string): InvalidOptionError {
  return new InvalidOptionError(
    `This pkcs11: URI cannot be used: ${why}. ` +
      "It looks like pkcs11:token=NAME;object=LABEL?module-path=/path/of/module.so&pin-source=file:/path/of/pin.",
  );
}
