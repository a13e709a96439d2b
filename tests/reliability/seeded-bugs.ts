/** The bugs that this suite must catch, as edits of the built server. */

import type { Edit } from "../seeded-server.ts";

/** SQLite syncs the write-ahead log at checkpoints only. The setting and its reading back are one line. */
export const SYNCHRONOUS_NORMAL: Edit = { find: '["synchronous", "full", 2]', replace: '["synchronous", "normal", 1]' };

/** Writers are told that their write is durable a moment before it is committed. */
export const ACKNOWLEDGE_BEFORE_COMMIT: Edit = {
  find: "committing = true;",
  replace:
    "for (const [index, job] of group.entries()) job.resolve(done[index]);\n" +
    "        await new Promise((resolve) => setTimeout(resolve, 20));\n" +
    "        committing = true;",
};

/** A backup reads one committed state after the other, as it comes to each part. */
export const BACKUP_WITHOUT_SNAPSHOT: Edit = {
  find: 'connection.exec("begin")',
  replace: 'connection.exec("select 1")',
};
