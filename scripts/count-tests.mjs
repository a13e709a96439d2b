/** Prints the closing line of CI from vitest's JSON report, and fails when a test, or a step before, did. */
import { readFileSync } from "node:fs";

const [file, failedSteps] = process.argv.slice(2);
let passed = 0;
let failed = 0;
let skipped = 0;
try {
  const report = JSON.parse(readFileSync(file, "utf8"));
  passed = report.numPassedTests;
  failed = report.numFailedTests + report.numFailedTestSuites;
  skipped = report.numPendingTests + report.numTodoTests;
} catch {
  failed = 1;
}
if (skipped > 0) console.log(`${skipped} tests were skipped; on CI nothing skips`);
if (failedSteps !== "0") console.log("a step failed: see *** above");
console.log(`tests: ${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || skipped > 0 || passed === 0 || failedSteps !== "0" ? 1 : 0;
