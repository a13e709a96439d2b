/** Progress on a terminal and elsewhere. */

import { PassThrough } from "node:stream";

import { expect, test } from "vitest";

import { startProgress } from "../../src/cli/progress.js";

test("without a terminal there is a line every five seconds, and none for what is quick", () => {
  const stream = new PassThrough();
  let time = 0;
  const progress = startProgress("backing up", { stream, now: () => time });
  for (; time < 12_000; time += 100) progress.update(time, 24_000);
  progress.stop();
  expect(String(stream.read())).toBe("backing up: 20%\nbacking up: 41%\n");
});

test("on a terminal there is a bar, which is taken away in the end", () => {
  const stream = Object.assign(new PassThrough(), {
    isTTY: true,
    columns: 80,
    cursorTo: () => true,
    clearLine: () => true,
    clearScreenDown: () => true,
    moveCursor: () => true,
  });
  const progress = startProgress("verifying", { stream });
  progress.update(1, 2);
  progress.update(2, 2);
  progress.stop();
  expect(String(stream.read())).toContain("verifying [");
  startProgress("nothing", { stream }).stop();
  expect(stream.read()).toBeNull();
});
