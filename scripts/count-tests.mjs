/** Prints the closing line of CI from vitest's JSON report, and fails when a test, or a step before, did. */
import { readFileSync } from "node:fs";

const [file, failedSteps] = process.argv.slice(2);

function count() {
  try {
    const report = JSON.parse(readFileSync(file, "utf8"));
    return {
      passed: report.numPassedTests,
      failed:
        report.numFailedTests +
        report.testResults.filter(({ assertionResults }) => assertionResults.length === 0).length,
      skipped: report.numPendingTests + report.numTodoTests,
    };
  } catch {
    // No report: the tests did not run to their end.
    return { passed: 0, failed: 1, skipped: 0 };
  }
}

const { passed, failed, skipped } = count();
if (skipped > 0) console.log(`${skipped} tests were skipped; on CI nothing skips`);
if (failedSteps !== "0") console.log("a step failed: see *** above");
console.log(`tests: ${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || skipped > 0 || passed === 0 || failedSteps !== "0" ? 1 : 0;
