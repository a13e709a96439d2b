/** Entry for browsers: the page comes from the desk. */

import { perform } from "./perform.ts";

await perform(location.origin);
