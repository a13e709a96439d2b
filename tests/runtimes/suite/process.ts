/** Entry for Node, Bun and Deno: the desk's URL is the first argument. */

import { perform } from "./perform.ts";

await perform(process.argv[2] ?? "");
