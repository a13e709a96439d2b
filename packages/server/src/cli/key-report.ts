/** The state of the keys and receipts as text for people. */

import type { DestructionReceipt, KeyProviderInfo, KeyStatus, StoreKeyStatus } from "@tacenda/protocol";

import { counted } from "../counted.js";

export function describeStatus(status: KeyStatus): string {
  const lines = status.providers.flatMap(describeProvider);
  lines.push(
    status.outdatedWraps === 0
      ? "Every store key is wrapped under the current master key."
      : `${counted(status.outdatedWraps, "store key")} ${status.outdatedWraps === 1 ? "is" : "are"} still to be wrapped under the current master key.`,
  );
  if (status.nextRotation !== null) lines.push(`The master key is rotated by schedule on ${day(status.nextRotation)}.`);
  for (const { project, store, progress, damaged, endedAt } of status.reencryptions) {
    if (endedAt !== null) {
      lines.push(`${project}/${store} was re-encrypted but for damaged records, which keep their data keys.`);
      continue;
    }
    const left = damaged ? "; some records do not verify and stay as they are (verify names them)" : "";
    lines.push(`${project}/${store} is being re-encrypted: ${Math.floor(progress * 100)}%${left}.`);
  }
  if (status.failure !== null) lines.push(`The work has stopped and is tried again: ${status.failure}`);
  return `${lines.join("\n")}\n`;
}

function describeProvider({ id, active, configured, health, message, currentVersion, versions }: KeyProviderInfo) {
  const what = !configured ? "not configured" : active ? `active, ${health}` : health;
  return [
    `${id} (${what})`,
    ...(message === undefined ? [] : [`  ${message}`]),
    ...versions.map(({ version, createdAt, state, wraps }) => {
      const facts = [
        version === currentVersion ? "current" : (state ?? "state unknown"),
        ...(createdAt === null ? [] : [`made ${day(createdAt)}`]),
        wraps === 0 ? "wraps nothing" : `wraps ${counted(wraps, "store key")}`,
      ];
      return `  version ${version}: ${facts.join(", ")}`;
    }),
  ];
}

export function describeStore({ keys, reencryption }: StoreKeyStatus): string {
  const lines = keys.map(({ purpose, version, state, createdAt, provider, masterVersion }) => {
    const made = createdAt === 0 ? "" : `, made ${day(createdAt)}`;
    return `${purpose} key ${version}: ${state}${made}, wrapped under version ${masterVersion} of ${provider}`;
  });
  if (reencryption !== null) lines.push(`Being re-encrypted: ${Math.floor(reencryption.progress * 100)}%.`);
  return `${lines.join("\n")}\n`;
}

export function describeReceipt({ destroyed, at, keys, stillOpenedBy }: DestructionReceipt): string {
  const names = keys.map(({ provider, masterVersion, purpose, version }) => {
    const parts = [
      ...(purpose === undefined ? [] : [`${purpose} key ${version ?? "?"}`]),
      ...(provider === undefined ? [] : [`master-key version ${masterVersion ?? "?"} of ${provider}`]),
    ];
    return parts.join(", wrapped under ");
  });
  return [
    `Destroyed: ${destroyed}`,
    `At:        ${new Date(at).toISOString()}`,
    ...names.map((name) => `Key:       ${name}`),
    "What would still open it:",
    ...stillOpenedBy.map((sentence) => `  - ${sentence}`),
    "",
  ].join("\n");
}

function day(time: number): string {
  return new Date(time).toISOString().slice(0, 10);
}
