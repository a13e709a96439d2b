/**
 * Fails when a citation such as `spec/record.md § Padding` names a file or a heading that does not exist, so that the code's
 * references to the specification stay true. Links between headings inside spec/ are held to the same.
 */

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";

const root = join(import.meta.dirname, "..");
const TEXT = /\.(?:md|ts|mts|mjs|cjs|js|json|sh)$/;
/** A file of spec/, and the headings named after it: `spec/record.md § Head, § Opening`. */
const CITATION = /\bspec\/([\w-]+\.md)((?:[\s*/]*(?:,|and|or)?[\s*/]*§[\s*/]*[A-Z](?:(?!spec\/)[\w -])*)*)/g;
const LINK = /\]\(([\w./-]*\.md)?#([\w-]+)\)/g;

const headings = new Map();

/** The headings of a Markdown file outside code blocks; undefined when there is no such file. */
function headingsOf(path) {
  if (!headings.has(path)) headings.set(path, existsSync(join(root, path)) ? readHeadings(path) : undefined);
  return headings.get(path);
}

function readHeadings(path) {
  const text = readFileSync(join(root, path), "utf8").replaceAll(/^```.*?^```/gms, "");
  return [...text.matchAll(/^#+ (.+)$/gm)].map((match) => match[1].trim());
}

/** The fragment by which Markdown viewers link to a heading. */
function fragmentOf(heading) {
  return heading
    .toLowerCase()
    .replaceAll(/[^\w\s-]/g, "")
    .replaceAll(" ", "-");
}

/** Whether `cited`, which may run on into the sentence, begins with a heading and ends there or at a word's end. */
function names(heading, cited) {
  return cited === heading || (cited.startsWith(heading) && !/\w/.test(cited.charAt(heading.length)));
}

function* faultsOfCitations(text) {
  for (const [, file, sections] of text.matchAll(CITATION)) {
    const known = headingsOf(`spec/${file}`);
    if (known === undefined) {
      yield `spec/${file} does not exist`;
      continue;
    }
    for (const [, words] of sections.matchAll(/§[\s*/]*([A-Z][\w -]*)/g)) {
      const cited = words.replaceAll(/\s+/g, " ").trim();
      if (!known.some((heading) => names(heading, cited))) yield `spec/${file} has no heading "${cited}"`;
    }
  }
}

function* faultsOfLinks(path, text) {
  for (const [, file, fragment] of text.matchAll(LINK)) {
    const target = file === undefined ? path : posix.join(posix.dirname(path), file);
    const known = headingsOf(target)?.map(fragmentOf);
    if (known === undefined) yield `${target} does not exist`;
    else if (!known.includes(fragment)) yield `${target} has no heading for #${fragment}`;
  }
}

/** Files git knows or would know; build output and dependencies are not among them. */
function projectFiles() {
  const list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const paths = execFileSync("git", list, { cwd: root, encoding: "utf8" }).split("\0");
  return paths.filter((path) => TEXT.test(path) && path !== "package-lock.json" && existsSync(join(root, path)));
}

let citing = 0;
let faults = 0;
for (const path of projectFiles()) {
  const text = readFileSync(join(root, path), "utf8");
  if (text.includes("spec/")) citing++;
  const found = [...faultsOfCitations(text), ...(path.startsWith("spec/") ? faultsOfLinks(path, text) : [])];
  for (const fault of found) console.error(`${path}: ${fault}`);
  faults += found.length;
}
if (faults > 0) process.exit(1);
console.log(`Every citation of spec/ holds, in ${citing} files.`);
