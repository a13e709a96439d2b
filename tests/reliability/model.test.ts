/**
 * Sequences of what callers and administrators do, by two clients with marks of their own, against a model of the store in memory:
 * every result and every error is the one that the model gives. TACENDA_MODEL_SEQUENCES says how many.
 */

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { seedServer, type Edit } from "../seeded-server.ts";
import { SERVER_BIN, freshFolder } from "../server-process.ts";
import { DATABASES, type DatabaseName } from "./databases.ts";
import { sequences } from "./model/commands.ts";
import { StoreModel } from "./model/model.ts";
import { ModelWorld } from "./model/world.ts";
import { reportBug, reportTrials } from "./report.ts";
import { PRECONDITION_IGNORED, PROTECTION_IGNORED, PURGE_FORGOTTEN } from "./seeded-bugs.ts";

const SEQUENCES = Number(process.env.TACENDA_MODEL_SEQUENCES ?? 60);
/** In which a planted bug must show. */
const BUG_SEQUENCES = 500;

/** Gives what the first sequence that failed came to, cut down to what it takes; empty when none did. */
async function tryModel(bin: string, database: DatabaseName, count: number, shrinks = true): Promise<string> {
  const world = await ModelWorld.open(bin, database);
  let runs = 0;
  const property = fc.asyncProperty(sequences, async (commands) => {
    const number = runs++;
    const nameOf = (key: number) => `sequence ${number}, key ${key}`;
    await fc.asyncModelRun(() => ({ model: new StoreModel(), real: { world, nameOf } }), commands);
  });
  const checked = await fc.check(property, { numRuns: count, endOnFailure: !shrinks });
  return checked.failed ? `${String(checked.errorInstance)}\n${fc.defaultReportMessage(checked) ?? ""}` : "";
}

describe.each(DATABASES)(`on %s, ${SEQUENCES} sequences of up to 24 calls`, (database) => {
  const subject = { id: "R8", test: "sequences of calls against a model", database } as const;

  test("come to what the model says", { timeout: 60_000 + SEQUENCES * 2_000 }, async () => {
    const fault = await tryModel(SERVER_BIN, database, SEQUENCES);
    const violations = fault === "" ? 0 : 1;
    reportTrials({ ...subject, trials: SEQUENCES, unit: "sequences", losses: 0, violations });
    expect(fault).toBe("");
  });

  test.each<[string, Edit]>([
    ["a precondition ignored", PRECONDITION_IGNORED],
    ["protection ignored", PROTECTION_IGNORED],
    ["a purge forgotten", PURGE_FORGOTTEN],
  ])("this suite catches %s", { timeout: 120_000 }, async (bug, edit) => {
    const fault = await tryModel(await seedServer(await freshFolder(), [edit]), database, BUG_SEQUENCES, false);
    reportBug({ ...subject, bug, caught: fault !== "" });
    expect(fault).not.toBe("");
  });
});
