/** Canaries, the forms in which one could leak, and the search for them in any bytes. */

/** Something that must not be found. A text is searched in the forms of texts as well as of bytes. */
export interface Canary {
  name: string;
  content: string | Uint8Array;
}

/** One form of one half of a canary. */
export interface Needle {
  canary: string;
  form: string;
  bytes: Buffer;
}

/** Shorter needles could be found by chance. */
const LEAST_BYTES = 10;

/** Each half of a canary in every form: a leak that is cut off is one too. */
export function needlesOf(canaries: readonly Canary[]): Needle[] {
  return canaries.flatMap(({ name, content }) =>
    halves(content).flatMap((half, index) => {
      const forms =
        typeof half === "string" ? { ...formsOfBytes(Buffer.from(half)), ...formsOfText(half) } : formsOfBytes(half);
      return Object.entries(forms).map(([form, bytes]) => {
        if (bytes.length < LEAST_BYTES) throw new Error(`The canary "${name}" is too short to be searched as ${form}.`);
        return { canary: `${name}, half ${index + 1}`, form, bytes };
      });
    }),
  );
}

/** What is found, as `canary as form`, once each. */
export function search(haystack: Uint8Array | string, needles: readonly Needle[]): string[] {
  const bytes = Buffer.from(haystack);
  const found = needles.filter((needle) => bytes.includes(needle.bytes));
  return [...new Set(found.map(({ canary, form }) => `${canary} as ${form}`))];
}

function halves(content: string | Uint8Array): (string | Buffer)[] {
  if (typeof content !== "string") {
    const middle = content.length / 2;
    return [Buffer.from(content.subarray(0, middle)), Buffer.from(content.subarray(middle))];
  }
  const characters = Array.from(content);
  const middle = Math.floor(characters.length / 2);
  return [characters.slice(0, middle).join(""), characters.slice(middle).join("")];
}

function formsOfBytes(bytes: Buffer): Record<string, Buffer> {
  const hex = bytes.toString("hex");
  const pairs = hex.match(/../g) ?? [];
  const texts: Record<string, string> = {
    hex,
    "hex in upper case": hex.toUpperCase(),
    "hex with spaces": pairs.join(" "),
    "percent-encoded bytes": pairs.map((pair) => `%${pair.toUpperCase()}`).join(""),
    "percent-encoded bytes in lower case": pairs.map((pair) => `%${pair}`).join(""),
    "a list of numbers": bytes.join(","),
    "a list of numbers with spaces": bytes.join(", "),
  };
  for (const before of [0, 1, 2]) {
    texts[`base64 at alignment ${before}`] = base64Within(bytes, before, "base64");
    texts[`base64url at alignment ${before}`] = base64Within(bytes, before, "base64url");
  }
  return { raw: bytes, ...mapValues(texts, (text) => Buffer.from(text, "latin1")) };
}

/** The characters that the bytes determine alone, when `before` (modulo 3) bytes stand before them and any after them. */
function base64Within(bytes: Buffer, before: number, encoding: "base64" | "base64url"): string {
  const text = Buffer.concat([Buffer.alloc(before), bytes]).toString(encoding);
  return text.slice(Math.ceil((before * 8) / 6), Math.floor(((before + bytes.length) * 8) / 6));
}

function formsOfText(text: string): Record<string, Buffer> {
  const json = JSON.stringify(text).slice(1, -1);
  const escape = (unit: string) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  const urlEncoded = encodeURIComponent(text);
  const utf16 = Buffer.from(text, "utf16le");
  return {
    "URL-encoded": Buffer.from(urlEncoded),
    "URL-encoded in lower case": Buffer.from(urlEncoded.replaceAll(/%../g, (code) => code.toLowerCase())),
    "form-encoded": Buffer.from(new URLSearchParams({ t: text }).toString().slice(2)),
    "JSON-escaped": Buffer.from(json),
    "JSON-escaped to ASCII": Buffer.from(json.replaceAll(/[^\x20-\x7e]/g, escape)),
    "JSON-escaped throughout": Buffer.from(
      Array.from({ length: text.length }, (_, index) => escape(text.charAt(index))).join(""),
    ),
    "UTF-16LE": utf16,
    "UTF-16BE": Buffer.from(utf16).swap16(),
  };
}

function mapValues<In, Out>(record: Record<string, In>, change: (value: In) => Out): Record<string, Out> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value)]));
}
