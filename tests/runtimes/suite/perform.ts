/** Fetches the plan from the desk, runs every case of the suite, and reports; the same in every runtime. */

import { failureCases } from "./cases/failures.ts";
import { hygieneCases } from "./cases/hygiene.ts";
import { secretCases } from "./cases/secrets.ts";
import { valueCases } from "./cases/values.ts";
import { vectorCases } from "./cases/vectors.ts";
import { type Case, createContext } from "./context.ts";
import type { Failure, Outcome, Plan } from "./plan.ts";
import { readSamples, sharedStore, writeSamples } from "./samples.ts";

/** Milliseconds for one case; the slowest takes about two seconds on a busy machine. */
const CASE_LIMIT = 30_000;

const interopCases: Case[] = [
  { name: "it reads what Node wrote", run: ({ plan }) => readSamples(sharedStore(plan), "node") },
  { name: "it writes for Node to read", run: ({ plan }) => writeSamples(sharedStore(plan), plan.runtime) },
];

/** Runs the suite for the desk at this URL. @throws {Error} when the desk cannot be reached. */
export async function perform(deskUrl: string): Promise<void> {
  const plan = (await (await fetch(`${deskUrl}/plan`)).json()) as Plan;
  const outcome = await runAll(plan);
  const answer = await fetch(`${deskUrl}/outcome`, { method: "POST", body: JSON.stringify(outcome) });
  await answer.text();
}

async function runAll(plan: Plan): Promise<Outcome> {
  const context = createContext(plan);
  const cases = [
    ...failureCases,
    ...valueCases,
    ...secretCases,
    ...hygieneCases,
    ...interopCases,
    ...vectorCases(plan),
  ];
  const failures: Failure[] = [];
  for (const { name, run } of cases) {
    try {
      await withinLimit(run(context));
    } catch (error) {
      failures.push({ name, message: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    }
  }
  return { passed: cases.length - failures.length, failures };
}

/** A case that hangs must not keep the others from running. */
async function withinLimit(run: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${CASE_LIMIT} ms`)), CASE_LIMIT);
  });
  try {
    await Promise.race([run, late]);
  } finally {
    clearTimeout(timer);
  }
}
