/** `tacenda-server reopen`: takes back that a database was closed by `copy --close-source`; spec/envelope.md § Copying. */

import { holdData } from "../data-directory.js";
import type { Database } from "../storage/database.js";
import { CLOSED_MARK } from "../storage/restoration.js";
import type { DatabaseFlags } from "./options.js";

export interface ReopenFlags extends DatabaseFlags {
  dataDir: string;
}

export async function reopen({ dataDir, databaseUrl }: ReopenFlags): Promise<void> {
  const { name, hold } = await holdData(dataDir, { databaseUrl });
  try {
    const database = await hold.open();
    try {
      const wasClosed = await open(database);
      process.stdout.write(wasClosed ? `Servers start on ${name} again.\n` : `It was not closed: ${name}.\n`);
    } finally {
      await database.close();
    }
  } finally {
    hold.release();
  }
}

/** Whether it was closed. */
async function open({ directory, restoration }: Database): Promise<boolean> {
  for (;;) {
    const mark = await directory.getSetting(CLOSED_MARK);
    if (mark === null) return false;
    // A copy that is at work may have put another one in its place.
    if (await restoration.replaceClosedMark(mark, null)) return true;
  }
}
