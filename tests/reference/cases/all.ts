/** All generated vectors, and the text of their files. */

import type { Vector } from "../vector.ts";
import { deriveCases } from "./derive.ts";
import { envelopeCases } from "./envelope.ts";
import { openCases } from "./open.ts";
import { sealCases } from "./seal.ts";

const vectors: Vector[] = [...deriveCases, ...sealCases, ...openCases, ...envelopeCases];

/** Path below spec/vectors of a vector's file. */
export function vectorPath(vector: Vector): string {
  const words = vector.name.toLowerCase().match(/[a-z0-9^]+/g) ?? [];
  return `${vector.type}/${words.join("-").replaceAll("^", "")}.json`;
}

/** Text of every generated file by its path below spec/vectors. Throws when two vectors would share a file. */
export function vectorFiles(): Map<string, string> {
  const files = new Map<string, string>();
  for (const vector of vectors) {
    const path = vectorPath(vector);
    if (files.has(path)) throw new Error(`two vectors are called ${path}: give one another name`);
    files.set(path, `${JSON.stringify(vector, null, 2)}\n`);
  }
  return files;
}
