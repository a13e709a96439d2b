/** URIs of keys on hardware tokens: RFC 7512, and no PIN in any message; spec/envelope.md § Hardware tokens. */

import { describe, expect, test } from "vitest";

import { parsePkcs11Uri } from "../../../src/envelope/providers/pkcs11-uri.js";
import { InvalidOptionError } from "../../../src/startup-error.js";

const MODULE = "module-path=/usr/lib/module.so";

describe("pkcs11 URIs", () => {
  test("name a token, its keys, a module and a file with the PIN", () => {
    expect(parsePkcs11Uri(`pkcs11:token=hsm;object=tacenda?${MODULE}&pin-source=file:/run/pin`)).toEqual({
      id: "pkcs11:token=hsm;object=tacenda",
      token: "hsm",
      serial: null,
      object: "tacenda",
      modulePath: "/usr/lib/module.so",
      pinFile: "/run/pin",
    });
  });

  test("are the same key in whatever order and escaping they are written, and wherever module and PIN are", () => {
    const plain = parsePkcs11Uri(`pkcs11:token=My%20token;object=key%2F1?${MODULE}`);
    const other = parsePkcs11Uri(
      "pkcs11:type=secret-key;serial=0a1b;object=%6bey/1;token=My token?pin-source=/pin&module-path=/opt/a%20b.so",
    );
    expect(plain.id).toBe("pkcs11:token=My%20token;object=key%2F1");
    expect(other.id).toBe(plain.id);
    expect(other).toMatchObject({ token: "My token", object: "key/1", serial: "0a1b", modulePath: "/opt/a b.so" });
  });

  test.each([
    ["file:/run/pin", "/run/pin"],
    ["file:///run/pin", "/run/pin"],
    ["/run/pin", "/run/pin"],
    ["file:%2Frun%2Fa%26b", "/run/a&b"],
  ])("take the PIN from %s", (source, file) => {
    expect(parsePkcs11Uri(`pkcs11:token=t;object=o?${MODULE}&pin-source=${source}`).pinFile).toBe(file);
  });

  test("have ids of at most 512 characters", () => {
    const uri = `pkcs11:token=${"%C3%A4".repeat(16)};object=${"%C3%A4".repeat(50)}?${MODULE}`;
    expect(parsePkcs11Uri(uri).id.length).toBeLessThanOrEqual(512);
  });

  test.each([
    ["pkcs11:", "token="],
    [`pkcs11:object=o?${MODULE}`, "token="],
    [`pkcs11:token=;object=o?${MODULE}`, "token="],
    [`pkcs11:token=t?${MODULE}`, "object="],
    ["pkcs11:token=t;object=o", "module-path"],
    ["pkcs11:token=t;object=o?module-path=module.so", "absolute path"],
    [`pkcs11:token=${"t".repeat(33)};object=o?${MODULE}`, "at most 32 bytes"],
    [`pkcs11:token=t;object=${"o".repeat(101)}?${MODULE}`, "at most 100 bytes"],
    [`pkcs11:token=t;token=u;object=o?${MODULE}`, "once"],
    [`pkcs11:token;object=o?${MODULE}`, "with a value"],
    [`pkcs11:token=%FF;object=o?${MODULE}`, "percent-encoded UTF-8"],
    [`pkcs11:token=%;object=o?${MODULE}`, "percent-encoded UTF-8"],
    [`pkcs11:token=a%00b;object=o?${MODULE}`, "zero byte"],
    [`pkcs11:token=t;object=o;type=private?${MODULE}`, "secret-key"],
    [`pkcs11:token=t;object=o;model=x?${MODULE}`, '"model" is not known'],
    [`pkcs11:token=t;object=o;slot-id=1?${MODULE}`, '"slot-id" is not known'],
    [`pkcs11:token=t;object=o?${MODULE}&token=u`, '"token" is not known'],
    [`pkcs11:token=t;object=o?${MODULE}?x=y`, "one part before"],
    [`pkcs11:token=t;object=o?${MODULE}&pin-source=|cat /pin`, "pin-source"],
    [`pkcs11:token=t;object=o?${MODULE}&pin-source=file:pin`, "pin-source"],
    [`pkcs11:token=t;object=o?${MODULE}&pin-value=4711`, "seen by everyone"],
    [`pkcs11:token=t;object=o;pin-value=4711?${MODULE}`, "seen by everyone"],
    [`pkcs11:token=t;object=o;4711?${MODULE}`, "one of its attributes is not known"],
  ])("are refused when they are wrong: %s", (uri, why) => {
    const parse = () => parsePkcs11Uri(uri);
    expect(parse).toThrow(InvalidOptionError);
    expect(parse).toThrow(why);
    expect(parse).not.toThrow("4711");
  });
});
