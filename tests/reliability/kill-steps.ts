/** Every step of the key operations at which a server is killed, as places in its built text. */

import type { Edit } from "../seeded-server.ts";

export type Operation = "rotate" | "retire" | "destroy" | "reinstate" | "migrate" | "rotateData" | "reencrypt";

/** A place in the build: before or after a text that is there once. */
interface Place {
  side: "before" | "after";
  text: string;
}

/** Names the step at which a server with `KILLABLE` kills itself, and the passage. */
const NAME = "TACENDA_TEST_KILL_AT";
const PASSAGE = "TACENDA_TEST_KILL_PASSAGE";

const before = (text: string): Place => ({ side: "before", text });
const after = (text: string): Place => ({ side: "after", text });

const KEYRING_WRITTEN = "await handle2.writeFile(text);";
const KEYRING_PLACED = "await place(temporary, file);";
const ACTIVATED = "await providers.activate(provider);";
const WRAPS_COMMITTED = after("const replaced = await keys.replaceWraps(changes, lease);");
const WRAP_REPLACED = before("return Number(numUpdatedRows);");
const RETIRED = "await masterKeys.retire(master.masterVersion);";
const REINSTATED = "await masterKeys.reinstate(master.masterVersion).catch(rethrow);";
const DESTROYED = "await masterKeys.destroy(master.masterVersion).catch(rethrow);";
const DATA_KEY_TO_BE_ADDED = 'if (await keys.addDataKey(ref, key2) === "added") return key2.version;';
const BODY_REPLACED = after("count += Number(numUpdatedRows);");
const BODIES_COMMITTED = before("if (replaced === null) {\n      await storeKeys2.reload(project2, name, opened);");
const PROGRESS_KEPT = before("await restAfter(started);\n      continue;");
const ENDED = "await keys.endReencryption(progress);";

type Line = readonly [name: string, place: Place, passage?: number];

/** In the order in which an operation comes past. */
const KEYRING: readonly Line[] = [
  ["the new keyring is made and empty", before(KEYRING_WRITTEN)],
  ["the new keyring is written and not synced", after(KEYRING_WRITTEN)],
  ["the new keyring is on the disk", before(KEYRING_PLACED)],
  ["the new keyring is in its place", after(KEYRING_PLACED)],
];
const REWRAP: readonly Line[] = [
  ["keys are wrapped anew and not kept", before("result.refused += batch2.refused;")],
  ["the first of the wraps is replaced", WRAP_REPLACED],
  ["half of the wraps are replaced", WRAP_REPLACED, 32],
  ["the first wraps are committed", WRAPS_COMMITTED],
  ["the last wraps are committed", WRAPS_COMMITTED, 2],
];
const LINES: Readonly<Record<Operation, readonly Line[]>> = {
  rotate: [
    ...KEYRING,
    ["the master key is rotated", after("const masterVersion2 = await providers.rotate(provider).catch(rethrow);")],
    ...REWRAP,
  ],
  migrate: [
    ["the other provider is to be activated", before(ACTIVATED)],
    ["the other provider is activated", after(ACTIVATED)],
    ...REWRAP,
  ],
  retire: [
    ["a master key is to be retired", before("const noted = await keys.retireMaster(master, now());")],
    ["it is noted and not committed", before('return numInsertedOrUpdatedRows === 1n ? "retired"')],
    ["it is retired in the database", before(RETIRED)],
    ...KEYRING,
    ["it is retired in the provider", after(RETIRED)],
  ],
  reinstate: [
    ["a master key is to be reinstated", before(REINSTATED)],
    ...KEYRING,
    ["it is reinstated in the provider", after(REINSTATED)],
  ],
  destroy: [
    ["a master key is to be destroyed", before(DESTROYED)],
    ...KEYRING,
    ["it is destroyed in the provider", after(DESTROYED)],
  ],
  rotateData: [
    ["a data key is wrapped", before(DATA_KEY_TO_BE_ADDED)],
    ["the earlier are retired, not committed", before("await insertKey(transaction, project, store, key);")],
    ["it is added and not committed", before('return "added";')],
    ["it is committed", before("if (reencrypt2) await services.keyAdministration.reencrypt(call);")],
  ],
  reencrypt: [
    ["a re-encryption is begun", after("const begun = await keys.beginReencryption(ref, now());")],
    ["bodies are encrypted and not kept", before("const replaced = await maintenance.replaceBodies(")],
    ["the first of the bodies is replaced", BODY_REPLACED],
    ["some of the bodies are replaced", BODY_REPLACED, 20],
    ["bodies are committed, how far it has come is not kept", BODIES_COMMITTED],
    ["more bodies are committed, and it is not kept", BODIES_COMMITTED, 2],
    ["how far it has come is kept", PROGRESS_KEPT],
    ["it is kept again", PROGRESS_KEPT, 2],
    ["a pass is over", before("const seen = await lookOver(")],
    ["nothing is under the earlier data keys", before("await deleteUnused(services, progress);")],
    ["a data key is deleted and not committed", before("return numDeletedRows === 1n;")],
    ["the data keys are deleted", before("await maintenance.scrub();\n}")],
    ["it is to be ended", before(ENDED)],
    ["it is ended", after(ENDED)],
  ],
};

/** One for each step and each operation that comes past it. */
export const STEPS: readonly { operation: Operation; name: string; place: Place; passage: number }[] = Object.entries(
  LINES,
).flatMap(([operation, lines]) =>
  lines.map(([name, place, passage = 1]) => ({ operation: operation as Operation, name, place, passage })),
);

export type KillStep = (typeof STEPS)[number];

/** Every place once: not again for another operation that comes past it, nor at a later passage. */
export const DISTINCT_STEPS = STEPS.filter(
  ({ place }, index) => STEPS.findIndex((step) => nameOf(step.place) === nameOf(place)) === index,
);

/** What the server is told to kill itself there. */
export function killAt({ place, passage }: Pick<KillStep, "place" | "passage">): Record<string, string> {
  return { [NAME]: nameOf(place), [PASSAGE]: String(passage) };
}

function nameOf({ side, text }: Place): string {
  return `${side} ${text.split("\n")[0] ?? ""}`;
}

/** Makes a build one that kills itself where it is told to. */
export const KILLABLE: readonly Edit[] = [...new Set(STEPS.map(({ place }) => place.text))].map((text) => {
  const kill = (side: Place["side"]) => {
    const place = { side, text };
    if (!STEPS.some((step) => step.place.side === side && step.place.text === text)) return "";
    return (
      `if (process.env.${NAME} === ${JSON.stringify(nameOf(place))} && ` +
      `(globalThis.passages = (globalThis.passages ?? 0) + 1) === Number(process.env.${PASSAGE})) ` +
      'process.kill(process.pid, "SIGKILL");\n'
    );
  };
  return { find: text, replace: `${kill("before")}${text}\n${kill("after")}` };
});
