/** One attack for each defence of the client. Each can be run against an SDK with a bug planted in it as well. */

import type { Attack } from "./arena.js";
import { BATCH_ATTACKS } from "./attacks/batches.js";
import { HISTORY_ATTACKS } from "./attacks/history.js";
import { RECORD_ATTACKS } from "./attacks/records.js";
import { TRANSPORT_ATTACKS } from "./attacks/transport.js";
import { WRITE_ATTACKS } from "./attacks/writes.js";
import { CORRUPTIONS_ATTACK } from "./corruptions.js";

export const ATTACKS: readonly Attack[] = [
  ...RECORD_ATTACKS,
  CORRUPTIONS_ATTACK,
  ...HISTORY_ATTACKS,
  ...WRITE_ATTACKS,
  ...BATCH_ATTACKS,
  ...TRANSPORT_ATTACKS,
];
