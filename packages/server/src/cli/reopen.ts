/** `tacenda-server reopen`: takes back that a database was closed by `copy --close-source`; spec/envelope.md § Copying. */

import { holdData } from "../data-directory.js";
import { CLOSED_MARK } from "../storage/restoration.js";
import type { DatabaseFlags } from "./options.js";

export interface ReopenFlags extends DatabaseFlags {
  dataDir: string;
}

export async function reopen({ dataDir, databaseUrl }: ReopenFlags): Promise<void> {
  const { name, hold } = await holdData(dataDir, { databaseUrl });
  try {
    const database = await hold.open();
    const { directory } = database;
    try {
      const isClosed = (await directory.getSetting(CLOSED_MARK)) !== null;
      if (isClosed) await directory.deleteSetting(CLOSED_MARK);
      process.stdout.write(isClosed ? `Servers start on ${name} again.\n` : `It was not closed: ${name}.\n`);
    } finally {
      await database.close();
    }
  } finally {
    hold.release();
  }
}
